#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "export/check_headers.h"
#include "export/hf_names.h"
#include "export/stored_names.h"
#include "export/stored_quantization.h"

namespace halftone {

// What the parts of check_headers() have in common.
struct HeaderNotes {
  const Checkpoint& checkpoint;
  HeaderCheck& result;
  std::set<std::string> consumed = {};  // names on disk that something asked for
  std::set<std::string> bad = {};       // of those, what has a finding

  bool has(const std::string& name) const { return checkpoint.has(name); }
  void add(const char* rule, const std::string& tensor, std::string expected, std::string found);
  void warn(const char* rule, const std::string& tensor, std::string expected, std::string found);
};

// "BF16 [128, 64]"
std::string described(DType dtype, const std::vector<int64_t>& shape);
// The name in the configuration of the experts that share one tensor.
std::string container_of(const LinearSite& linear);

// The linears of a checkpoint: what the configuration says of each, and whether its tensors are
// there as its format has them.
class LinearHeaders {
 public:
  LinearHeaders(HeaderNotes& notes, const StoredQuantization& stored, DType dtype);

  // One format in the whole checkpoint, and a list of modules that do not have it.
  bool is_uniform() const { return is_uniform_; }
  bool is_nf4() const { return is_nf4_; }
  // The format of every linear of a stage.
  std::vector<LinearFormat> check(const StageSpec& stage);
  // A module that is not quantized must be in the list; embeddings, which no engine quantizes,
  // should be.
  void require_excluded(const std::string& module, bool embedding);

 private:
  using Entry = StoredQuantization::Entry;

  const Entry* entry_of(const LinearSite& linear, bool stacked) const;
  bool is_coded(const LinearSite& linear, bool stacked) const;
  LinearFormat check_linear(const StageSpec& stage, const LinearSite& linear);
  LinearFormat check_format(const StageSpec& stage, const LinearSite& linear, bool stacked,
                            const Entry& entry);
  void require_listed(const LinearSite& linear);
  LinearFormat set_aside(const LinearSite& linear, bool stacked);
  std::optional<LinearFormat> format_of(const LinearSite& linear, bool stacked,
                                        const Entry& entry) const;
  int64_t rank_of_branch(const LinearSite& linear) const;
  void check_parts(const StageSpec& stage, const LinearSite& linear, const LinearFormat& format);
  bool check_part(const HfPart& part, int64_t block);
  void add_group_size(const std::string& tensor, int64_t in_config, int64_t stored);
  void check_lacking(const StageSpec& stage);

  HeaderNotes& notes_;
  const StoredQuantization& stored_;
  DType dtype_;
  bool is_nf4_;
  bool is_uniform_;
  ExcludeList excluded_;
  std::map<int, std::vector<std::string>> lacking_;  // weights of the stage, by expert
  std::set<std::string> unlisted_;
  std::set<std::string> unknown_;
};

}  // namespace halftone
