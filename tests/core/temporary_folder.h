#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <string>
#include <string_view>

#include "core/error.h"
#include "core/files.h"

namespace halftone {

// A fresh folder that goes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "halftone-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw ResourceError("cannot make " + name);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const fs::path& path() const { return path_; }
  fs::path write(const std::string& name, std::string_view text) const {
    write_text_file(path_ / name, text);
    return path_ / name;
  }

 private:
  fs::path path_;
};

// Runs `action` and expects an `ErrorType` whose message holds `part`.
template <typename ErrorType, typename Action>
void expect_error(Action&& action, const std::string& part) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one with: " << part;
  } catch (const ErrorType& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
        << "message: " << error.what() << "\nexpected: " << part;
  }
}

}  // namespace halftone
