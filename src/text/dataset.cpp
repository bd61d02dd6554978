#include "text/dataset.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "core/sha256.h"
#include "core/text_distance.h"
#include "kernels/check.h"
#include "text/lines.h"
#include "text/utf8.h"

namespace halftone {
namespace {

class Collector {
 public:
  Collector(const Tokenizer* tokenizer, const DatasetOptions& options)
      : tokenizer_(tokenizer), options_(options) {
    check(options.samples >= 0 && options.max_length >= 0, "dataset options are not negative");
  }

  bool full() const {
    return options_.samples > 0 && std::ssize(dataset_.samples) >= options_.samples;
  }

  void add_line(const std::string& line, const std::string& origin) {
    if (line.find_first_not_of(" \t") == std::string::npos) return;
    const Json value = parse_json(line, origin);
    if (value.is_array()) return add_ids(value, "the list", origin);
    if (!value.is_object()) {
      throw InputError(concat(origin, ": expected an object with '", options_.text_field,
                              "' or 'input_ids', or a list of ids, found ", value.type_name()));
    }
    const auto text = value.find(options_.text_field);
    const auto ids = value.find("input_ids");
    const bool has_text = text != value.end() && !text->is_null();
    const bool has_ids = ids != value.end() && !ids->is_null();
    if (has_text && (tokenizer_ != nullptr || !has_ids)) {
      if (!text->is_string()) {
        throw InputError(concat(origin, ": '", options_.text_field, "' must be a string, found ",
                                text->type_name(), " (choose another field with --text-field)"));
      }
      return add_text(text->get_ref<const std::string&>(), origin);
    }
    if (!has_ids) refuse_fields(value, origin);
    if (!ids->is_array()) {
      throw InputError(
          concat(origin, ": 'input_ids' must be a list of ids, found ", ids->type_name()));
    }
    add_ids(*ids, "'input_ids'", origin);
  }

  void add_text(const std::string& text, const std::string& origin) {
    if (tokenizer_ == nullptr) {
      throw InputError(concat(origin,
                              ": a text needs a tokenizer, and the model has none: give ids "
                              "in 'input_ids'"));
    }
    if (text.empty()) {
      ++dataset_.dropped;
      return;
    }
    add_sample(tokenizer_->encode(text, options_.add_special), origin);
  }

  Dataset take() { return std::move(dataset_); }

 private:
  [[noreturn]] void refuse_fields(const Json& value, const std::string& origin) const {
    std::vector<std::string> names;
    std::string list;
    for (const auto& [name, member] : value.items()) {
      names.push_back(name);
      list += concat(list.empty() ? "'" : ", '", name, "'");
    }
    throw InputError(concat(origin, ": neither '", options_.text_field,
                            "' nor 'input_ids' is there, found ", list.empty() ? "no key" : list,
                            nearest_hint(options_.text_field, names),
                            "; choose the field with --text-field"));
  }

  void add_ids(const Json& list, const char* what, const std::string& origin) {
    std::vector<TokenId> ids;
    ids.reserve(list.size());
    const int64_t end = options_.vocabulary > 0 ? options_.vocabulary : int64_t{INT32_MAX} + 1;
    for (const Json& value : list) {
      const bool integer = value.is_number_integer();
      const bool huge = integer && value.is_number_unsigned() &&
                        value.get<uint64_t>() >= static_cast<uint64_t>(end);
      const int64_t id = integer && !huge ? value.get<int64_t>() : end;
      if (id < 0 || id >= end) {
        throw InputError(concat(origin, ": entry ", ids.size(), " of ", what,
                                " must be an id from 0 to ", end - 1, ", found ",
                                value.dump().substr(0, 40),
                                " (are the data made for another model? see --calib)"));
      }
      ids.push_back(static_cast<TokenId>(id));
    }
    add_sample(std::move(ids), origin);
  }

  void add_sample(std::vector<TokenId> ids, const std::string& origin) {
    if (ids.empty()) {
      ++dataset_.dropped;
      return;
    }
    if (options_.vocabulary > 0) {
      const TokenId largest = *std::max_element(ids.begin(), ids.end());
      if (largest >= options_.vocabulary) {
        throw InputError(concat(origin, ": the tokenizer gives the id ", largest,
                                ", but the model has ", options_.vocabulary,
                                " (is the tokenizer from another model?)"));
      }
    }
    if (options_.max_length > 0 && std::ssize(ids) > options_.max_length) {
      ids.resize(static_cast<size_t>(options_.max_length));
    }
    dataset_.samples.push_back({std::move(ids), origin});
  }

  const Tokenizer* tokenizer_;
  const DatasetOptions& options_;
  Dataset dataset_;
};

// In memory as in a file: the origin of the line in errors and samples.
std::string origin_of(const std::string& name, int64_t line) {
  return concat(name, ", line ", line);
}

void check_utf8(std::string_view text, const std::string& name) {
  const size_t invalid = first_invalid_utf8(text);
  if (invalid == std::string_view::npos) return;
  const auto begin = text.begin();
  const auto line = std::count(begin, begin + static_cast<ptrdiff_t>(invalid), '\n') + 1;
  throw InputError(concat(origin_of(name, line), ": not valid UTF-8 at byte ", invalid,
                          " of the file: save it as UTF-8 (or convert it with iconv)"));
}

void read_file(const fs::path& path, Collector& collector) {
  const std::string name = path.string();
  const std::string extension = path.extension().string();
  if (extension == ".parquet") {
    throw InputError(concat("'", name,
                            "': Parquet is not supported yet: give JSONL or plain text "
                            "with --calib"));
  }
  if (extension != ".jsonl" && extension != ".json") {
    const std::string text = read_text_file(path);
    check_utf8(text, name);
    return collector.add_text(text, name);
  }
  LineReader lines(path);
  std::string line;
  while (!collector.full() && lines.next(line)) {
    collector.add_line(line, origin_of(name, lines.number()));
  }
}

Dataset checked(Dataset dataset, const std::string& names) {
  if (!dataset.samples.empty()) return dataset;
  throw InputError(concat("no sample in ", names.empty() ? "an empty list of files" : names, " (",
                          dataset.dropped,
                          " empty ones were dropped): choose other data with --calib"));
}

}  // namespace

Dataset load_dataset(const std::vector<fs::path>& files, const Tokenizer* tokenizer,
                     const DatasetOptions& options) {
  Collector collector(tokenizer, options);
  std::string names;
  for (const fs::path& file : files) {
    names += concat(names.empty() ? "'" : ", '", file.string(), "'");
    if (!collector.full()) read_file(file, collector);
  }
  return checked(collector.take(), names);
}

Dataset parse_jsonl_dataset(std::string_view text, const std::string& name,
                            const Tokenizer* tokenizer, const DatasetOptions& options) {
  Collector collector(tokenizer, options);
  int64_t number = 0;
  while (!text.empty() && !collector.full()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string line(text.substr(0, end));
    if (!line.empty() && line.back() == '\r') line.pop_back();
    text.remove_prefix(std::min(end + 1, text.size()));
    collector.add_line(line, origin_of(name, ++number));
  }
  return checked(collector.take(), concat("'", name, "'"));
}

std::string fingerprint(const Dataset& dataset) {
  Sha256 sum;
  // Counts go in, so that moving an id to the next sample changes the sum; bytes are spelled out
  // for machines of any byte order.
  const auto add = [&sum](uint64_t value) {
    std::array<unsigned char, 8> bytes{};
    for (unsigned char& byte : bytes) {
      byte = static_cast<unsigned char>(value & 0xFF);
      value >>= 8;
    }
    sum.update(bytes.data(), bytes.size());
  };
  for (const Sample& sample : dataset.samples) {
    add(sample.ids.size());
    for (const TokenId id : sample.ids) add(static_cast<uint64_t>(id));
  }
  return sum.hex();
}

}  // namespace halftone
