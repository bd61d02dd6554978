#include "evaluate/tasks/csv.h"

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

class CsvReader {
 public:
  CsvReader(const fs::path& path, size_t fields)
      : path_(path), fields_(fields), text_(read_text_file(path)) {}

  std::vector<std::vector<std::string>> read() {
    while (at_ < text_.size()) {
      const int64_t line = line_;
      std::vector<std::string> record = read_record();
      if (record.size() == 1 && record[0].empty()) continue;  // a blank line
      if (record.size() != fields_) {
        fail(line, concat("there are ", record.size(), " fields, expected ", fields_));
      }
      records_.push_back(std::move(record));
    }
    return std::move(records_);
  }

 private:
  std::vector<std::string> read_record() {
    std::vector<std::string> record{read_field()};
    while (at_ < text_.size() && text_[at_] == ',') {
      ++at_;
      record.push_back(read_field());
    }
    if (at_ < text_.size() && text_[at_] == '\r') ++at_;
    if (at_ < text_.size() && text_[at_] != '\n') fail(line_, "text follows a quoted field");
    ++at_;
    ++line_;
    return record;
  }

  std::string read_field() {
    if (at_ < text_.size() && text_[at_] == '"') return read_quoted();
    const size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    std::string field = text_.substr(at_, end - at_);
    at_ = end;
    return field;
  }

  std::string read_quoted() {
    const int64_t line = line_;
    std::string field;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"') {
        if (at_ + 1 == text_.size() || text_[at_ + 1] != '"') {
          ++at_;
          return field;
        }
        ++at_;
      }
      if (text_[at_] == '\n') ++line_;
      field += text_[at_];
    }
    fail(line, "a quoted field does not end");
  }

  [[noreturn]] void fail(int64_t line, const std::string& what) const {
    throw InputError(concat("'", path_.string(), "', line ", line, ": ", what));
  }

  const fs::path& path_;
  size_t fields_;
  std::string text_;
  size_t at_ = 0;
  int64_t line_ = 1;
  std::vector<std::vector<std::string>> records_;
};

}  // namespace

std::vector<std::vector<std::string>> read_csv(const fs::path& path, size_t fields) {
  return CsvReader(path, fields).read();
}

}  // namespace halftone
