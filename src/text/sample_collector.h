#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "text/dataset.h"

namespace halftone {

// Makes samples of the lines, texts and sounds of a data set, by the rules of dataset.h.
class SampleCollector {
 public:
  // Both must outlive the collector.
  SampleCollector(const Tokenizer* tokenizer, const DatasetOptions& options);

  bool full() const;
  // A line of JSONL; its "audio" is relative to `folder`.
  void add_line(const std::string& line, const std::string& origin, const fs::path& folder);
  void add_text(const std::string& text, const std::string& origin);
  void add_sound(const fs::path& file);
  Dataset take() { return std::move(dataset_); }

 private:
  bool hears() const { return options_.decoder && options_.decoder->audio; }
  bool takes_text(const Json& value, const std::string& field, const char* ids_field) const;
  std::string text_of(const Json& value, const std::string& field, const std::string& origin) const;
  std::vector<TokenId> encode(const std::string& text, const std::string& origin) const;
  std::vector<TokenId> ids_of(const Json& list, const std::string& what,
                              const std::string& origin) const;
  void add_sound_line(const Json& value, const std::string& origin, const fs::path& folder);
  std::vector<TokenId> decoder_ids(const Json& value, const std::vector<TokenId>& encoder_ids,
                                   const std::string& origin) const;
  std::vector<TokenId> shifted(std::vector<TokenId> ids) const;
  std::vector<TokenId> started(std::vector<TokenId> ids) const;
  void add(Sample sample);
  [[noreturn]] void refuse_fields(const Json& value, const std::string& origin) const;

  const Tokenizer* tokenizer_;
  const DatasetOptions& options_;
  Dataset dataset_;
};

}  // namespace halftone
