#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"

namespace halftone {

// Values of a config.json with checked types and ranges. A key that is null counts as absent. Every
// error is an InputError naming the file and the key.
class ConfigReader {
 public:
  // Far beyond every model; products of two sizes stay below 2^63.
  static constexpr int64_t kMaxSize = int64_t{1} << 30;
  static constexpr int64_t kMaxLayers = 10000;

  // `config` must outlive the reader.
  ConfigReader(const Json& config, std::string source)
      : config_(&config), source_(std::move(source)) {}

  const Json& json() const { return *config_; }
  const std::string& source() const { return source_; }
  bool has(const char* key) const;       // present and not null
  bool mentions(const char* key) const;  // present, perhaps null

  int64_t size(const char* key) const;  // 1 to kMaxSize
  int64_t size_or(const char* key, int64_t fallback) const;
  int64_t count_or(const char* key, int64_t fallback) const;    // 0 to kMaxSize
  int64_t layers(const char* key = "num_hidden_layers") const;  // 1 to kMaxLayers
  // The first of the keys that is present; an error naming all of them where none is.
  int64_t size_of_any(const std::vector<const char*>& keys) const;
  double number_or(const char* key, double fallback) const;    // finite
  double positive_or(const char* key, double fallback) const;  // finite and above 0
  bool flag_or(const char* key, bool fallback) const;
  bool switch_or(const char* key, bool fallback) const;  // a flag that some write as 0 and 1
  std::string text_or(const char* key, const std::string& fallback) const;
  // Empty where the key is absent.
  std::vector<int64_t> integers(const char* key) const;
  std::vector<double> numbers(const char* key) const;
  std::vector<std::string> texts(const char* key) const;
  // The object under `key`, errors naming "config.json: key".
  ConfigReader object(const char* key) const;

  template <typename... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw InputError(concat(source_, ": ", parts...));
  }

 private:
  const Json* list(const char* key) const;

  const Json* config_;
  std::string source_;
};

}  // namespace halftone
