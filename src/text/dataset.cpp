#include "text/dataset.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "text/lines.h"
#include "text/sample_collector.h"
#include "text/utf8.h"

namespace halftone {
namespace {

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

void read_file(const fs::path& path, SampleCollector& collector) {
  const std::string name = path.string();
  const std::string extension = path.extension().string();
  if (extension == ".parquet") {
    throw InputError(concat("'", name,
                            "': Parquet is not supported yet: give JSONL or plain text "
                            "with --calib"));
  }
  if (extension == ".wav" || extension == ".WAV") return collector.add_sound(path);
  if (extension != ".jsonl" && extension != ".json") {
    const std::string text = read_text_file(path);
    check_utf8(text, name);
    return collector.add_text(text, name);
  }
  LineReader lines(path);
  std::string line;
  while (!collector.full() && lines.next(line)) {
    collector.add_line(line, origin_of(name, lines.number()), path.parent_path());
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
  SampleCollector collector(tokenizer, options);
  std::string names;
  for (const fs::path& file : files) {
    names += concat(names.empty() ? "'" : ", '", file.string(), "'");
    if (!collector.full()) read_file(file, collector);
  }
  return checked(collector.take(), names);
}

Dataset parse_jsonl_dataset(std::string_view text, const std::string& name,
                            const Tokenizer* tokenizer, const DatasetOptions& options) {
  SampleCollector collector(tokenizer, options);
  int64_t number = 0;
  while (!text.empty() && !collector.full()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string line(text.substr(0, end));
    if (!line.empty() && line.back() == '\r') line.pop_back();
    text.remove_prefix(std::min(end + 1, text.size()));
    collector.add_line(line, origin_of(name, ++number), {});
  }
  return checked(collector.take(), concat("'", name, "'"));
}

std::string fingerprint(const Dataset& dataset) {
  constexpr uint64_t kDecoderMark = UINT64_MAX;  // no number of ids
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
    if (!sample.has_encoder()) continue;
    add(kDecoderMark);
    add(sample.decoder_ids.size());
    for (const TokenId id : sample.decoder_ids) add(static_cast<uint64_t>(id));
    if (sample.audio.empty()) continue;
    const std::string sound = sha256_of_file(sample.audio);
    sum.update(sound.data(), sound.size());
  }
  return sum.hex();
}

}  // namespace halftone
