#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"

namespace halftone::test {

// A folder of its own for the running test, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    path_ = fs::path(testing::TempDir()) /
            concat("halftone_", ::getpid(), "_", info->test_suite_name(), "_", info->name());
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

inline void write_file(const fs::path& path, std::string_view bytes) {
  File file = File::create(path);
  file.write_at(0, bytes.data(), static_cast<int64_t>(bytes.size()));
  file.close();
}

// Eight bytes, little-endian.
inline std::string length_word(uint64_t length) {
  std::string word;
  for (int i = 0; i < 8; ++i) word += static_cast<char>(length >> (8 * i) & 0xff);
  return word;
}

// A safetensors file of this header and `data_bytes` bytes 0, 1, 2, ...
inline std::string safetensors_bytes(const std::string& header, int64_t data_bytes) {
  std::string bytes = length_word(header.size()) + header;
  for (int64_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i);
  return bytes;
}

// The message of the E that `act` throws; a failure of the test when it throws anything else.
template <typename E>
std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another exception: " << error.what();
    return "";
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

}  // namespace halftone::test
