#pragma once

#include <sstream>
#include <string>

namespace halftone {

enum class LogLevel { kDebug, kInfo, kWarn, kError };

// The process's logger writes to standard error: "12:00:01 rank 1 warning  text".
void set_up_log(LogLevel level, int rank, int ranks);
void log_line(LogLevel level, const std::string& text);
bool log_enabled(LogLevel level);

template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

template <typename... Parts>
void log_debug(const Parts&... parts) {
  if (log_enabled(LogLevel::kDebug)) log_line(LogLevel::kDebug, concat(parts...));
}
template <typename... Parts>
void log_info(const Parts&... parts) {
  if (log_enabled(LogLevel::kInfo)) log_line(LogLevel::kInfo, concat(parts...));
}
template <typename... Parts>
void log_warn(const Parts&... parts) {
  log_line(LogLevel::kWarn, concat(parts...));
}
template <typename... Parts>
void log_error(const Parts&... parts) {
  log_line(LogLevel::kError, concat(parts...));
}

}  // namespace halftone
