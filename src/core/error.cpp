#include "core/error.h"

#include <system_error>

namespace halftone {

Error::Error(ExitCode code, const std::string& text) : std::runtime_error(text), code_(code) {
  compose();
}

void Error::set_rank(int rank) {
  rank_ = rank;
  compose();
}

void Error::set_phase(const std::string& phase) {
  if (phase_.empty()) phase_ = phase;
  compose();
}

void Error::compose() {
  message_.clear();
  if (rank_ >= 0) message_ += "rank " + std::to_string(rank_);
  if (!phase_.empty()) message_ += (message_.empty() ? "" : ", ") + phase_;
  if (!message_.empty()) message_ += ": ";
  message_ += std::runtime_error::what();
}

std::string errno_text(int error_number) {
  return std::generic_category().message(error_number);
}

}  // namespace halftone
