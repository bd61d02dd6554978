#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/files.h"

namespace halftone {

// The HDF5 calibration store. Groups:
//   /meta                attributes: schema (1), halftone (the version that wrote it); the caller's
//                        texts (model and data fingerprints, resolved recipe as JSON) are one
//                        scalar string dataset each, since an attribute ends at 64 KiB
//   /linears/<name>      one group per linear ('/' cannot appear in a name; dots stay), datasets of
//                        F32: "input_amax" [], "weight_amax" [], ...
//   /progress            attributes: stages_done, stages
// A store that was opened is only opened for writing by the first call that writes. A name that is
// empty, "." or holds '/' is an InputError. A file that links outside itself is refused.
// No time stamps are stored, so equal runs give equal contents. HDF5's own error stack never
// reaches standard error: every failure is an InputError (reading) or ResourceError (writing) with
// the path.
class StatisticsStore {
 public:
  static StatisticsStore create(const fs::path& path);
  static StatisticsStore open(const fs::path& path);
  ~StatisticsStore();
  StatisticsStore(StatisticsStore&&) noexcept;
  StatisticsStore& operator=(StatisticsStore&&) noexcept;

  void set_text(const std::string& key, const std::string& text);
  // Throws InputError when the key is missing.
  std::string text(const std::string& key) const;
  std::map<std::string, std::string> texts() const;

  // Overwrites a dataset of the same name. An empty shape is a scalar.
  void set_values(const std::string& linear, const std::string& dataset,
                  const std::vector<float>& values, const std::vector<int64_t>& shape);
  struct Values {
    std::vector<float> values;
    std::vector<int64_t> shape;
  };
  bool has(const std::string& linear, const std::string& dataset) const;
  Values values(const std::string& linear, const std::string& dataset) const;
  std::vector<std::string> linears() const;  // in name order
  std::vector<std::string> datasets(const std::string& linear) const;

  void set_progress(int64_t stages_done, int64_t stages);
  int64_t stages_done() const;
  int64_t stages() const;

  // Flushes HDF5's buffers and fsyncs the file.
  void flush();

 private:
  struct State;
  explicit StatisticsStore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Of the library that this process loaded: "1.10.8".
std::string hdf5_version();

}  // namespace halftone
