#include "text/sample_collector.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"
#include "kernels/check.h"

namespace halftone {
namespace {

constexpr const char* kDecoderIds = "decoder_input_ids";

bool present(const Json& object, const std::string& key) {
  const auto found = object.find(key);
  return found != object.end() && !found->is_null();
}

void cut(std::vector<TokenId>& ids, int64_t length) {
  if (length > 0 && std::ssize(ids) > length) ids.resize(static_cast<size_t>(length));
}

}  // namespace

SampleCollector::SampleCollector(const Tokenizer* tokenizer, const DatasetOptions& options)
    : tokenizer_(tokenizer), options_(options) {
  check(options.samples >= 0 && options.max_length >= 0, "dataset options are not negative");
}

bool SampleCollector::full() const {
  return options_.samples > 0 && std::ssize(dataset_.samples) >= options_.samples;
}

void SampleCollector::add_line(const std::string& line, const std::string& origin,
                               const fs::path& folder) {
  if (line.find_first_not_of(" \t") == std::string::npos) return;
  const Json value = parse_json(line, origin);
  if (hears()) return add_sound_line(value, origin, folder);
  Sample sample;
  sample.origin = origin;
  if (value.is_array()) {
    sample.ids = ids_of(value, "the list", origin);
  } else if (!value.is_object()) {
    throw InputError(concat(origin, ": expected an object with '", options_.text_field,
                            "' or 'input_ids', or a list of ids, found ", value.type_name()));
  } else if (takes_text(value, options_.text_field, "input_ids")) {
    sample.ids = encode(text_of(value, options_.text_field, origin), origin);
  } else if (present(value, "input_ids")) {
    sample.ids = ids_of(value.at("input_ids"), "'input_ids'", origin);
  } else {
    refuse_fields(value, origin);
  }
  cut(sample.ids, options_.max_length);
  if (options_.decoder) sample.decoder_ids = decoder_ids(value, sample.ids, origin);
  add(std::move(sample));
}

void SampleCollector::add_text(const std::string& text, const std::string& origin) {
  if (hears()) {
    throw InputError(concat("'", origin,
                            "': the model hears sound: give .wav files, or JSONL with ",
                            "'audio', with --calib"));
  }
  Sample sample{encode(text, origin), origin};
  cut(sample.ids, options_.max_length);
  if (options_.decoder) sample.decoder_ids = shifted(sample.ids);
  add(std::move(sample));
}

void SampleCollector::add_sound(const fs::path& file) {
  if (!hears()) {
    throw InputError(concat("'", file.string(),
                            "': the model reads text, not sound: give JSONL or ",
                            "plain text with --calib"));
  }
  Sample sample{{}, file.string()};
  sample.decoder_ids = started({});
  sample.audio = file;
  add(std::move(sample));
}

void SampleCollector::add_sound_line(const Json& value, const std::string& origin,
                                     const fs::path& folder) {
  const bool has_audio = value.is_object() && present(value, "audio");
  if (!has_audio || !value.at("audio").is_string()) {
    throw InputError(
        concat(origin, ": expected an object whose 'audio' is the path of a WAV file, ", "found ",
               has_audio           ? value.at("audio").type_name()
               : value.is_object() ? "none"
                                   : value.type_name()));
  }
  Sample sample;
  sample.origin = origin;
  sample.audio = folder / fs::path(value.at("audio").get<std::string>());
  if (!fs::is_regular_file(sample.audio)) {
    throw InputError(concat(origin, ": 'audio' is no file: '", sample.audio.string(), "'"));
  }
  if (takes_text(value, options_.text_field, kDecoderIds)) {
    sample.decoder_ids = started(encode(text_of(value, options_.text_field, origin), origin));
  } else if (present(value, kDecoderIds)) {
    sample.decoder_ids = ids_of(value.at(kDecoderIds), concat("'", kDecoderIds, "'"), origin);
  }
  if (sample.decoder_ids.empty()) sample.decoder_ids = started({});
  add(std::move(sample));
}

// A text goes before ids, unless only ids can be read.
bool SampleCollector::takes_text(const Json& value, const std::string& field,
                                 const char* ids_field) const {
  return present(value, field) && (tokenizer_ != nullptr || !present(value, ids_field));
}

std::string SampleCollector::text_of(const Json& value, const std::string& field,
                                     const std::string& origin) const {
  const Json& text = value.at(field);
  if (!text.is_string()) {
    throw InputError(
        concat(origin, ": '", field, "' must be a string, found ", text.type_name(),
               field == options_.text_field ? " (choose another field with --text-field)" : ""));
  }
  return text.get<std::string>();
}

std::vector<TokenId> SampleCollector::encode(const std::string& text,
                                             const std::string& origin) const {
  if (tokenizer_ == nullptr) {
    throw InputError(concat(origin,
                            ": a text needs a tokenizer, and the model has none: give ids "
                            "in 'input_ids', or a folder with a tokenizer with --source-config"));
  }
  if (text.empty()) return {};
  std::vector<TokenId> ids = tokenizer_->encode(text, options_.add_special);
  const TokenId largest = ids.empty() ? 0 : *std::max_element(ids.begin(), ids.end());
  if (options_.vocabulary > 0 && largest >= options_.vocabulary) {
    throw InputError(concat(origin, ": the tokenizer gives the id ", largest,
                            ", but the model has ", options_.vocabulary,
                            " (is the tokenizer from another model?)"));
  }
  return ids;
}

std::vector<TokenId> SampleCollector::ids_of(const Json& list, const std::string& what,
                                             const std::string& origin) const {
  if (!list.is_array()) {
    throw InputError(
        concat(origin, ": ", what, " must be a list of ids, found ", list.type_name()));
  }
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
  return ids;
}

std::vector<TokenId> SampleCollector::decoder_ids(const Json& value,
                                                  const std::vector<TokenId>& encoder_ids,
                                                  const std::string& origin) const {
  const std::string& field = options_.decoder->target_field;
  if (value.is_object() && takes_text(value, field, kDecoderIds)) {
    return shifted(encode(text_of(value, field, origin), origin));
  }
  if (!value.is_object() || !present(value, kDecoderIds)) return shifted(encoder_ids);
  std::vector<TokenId> ids = ids_of(value.at(kDecoderIds), concat("'", kDecoderIds, "'"), origin);
  return ids.empty() ? started({}) : ids;
}

std::vector<TokenId> SampleCollector::shifted(std::vector<TokenId> ids) const {
  ids.insert(ids.begin(), options_.decoder->start);
  if (ids.size() > 1) ids.pop_back();
  return ids;
}

std::vector<TokenId> SampleCollector::started(std::vector<TokenId> ids) const {
  const TokenId start = options_.decoder->start;
  if (ids.empty() || ids.front() != start) ids.insert(ids.begin(), start);
  return ids;
}

void SampleCollector::add(Sample sample) {
  if (sample.ids.empty() && sample.audio.empty()) {
    ++dataset_.dropped;
    return;
  }
  cut(sample.decoder_ids, options_.max_length);
  dataset_.samples.push_back(std::move(sample));
}

void SampleCollector::refuse_fields(const Json& value, const std::string& origin) const {
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

}  // namespace halftone
