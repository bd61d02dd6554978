#pragma once

#include <string>
#include <vector>

#include "core/files.h"
#include "io/hdf5.h"

namespace halftone {

// The HDF5 file under a StatisticsStore: reading it trusts nothing. The callers keep a QuietErrors.
class StoreFile {
 public:
  enum class Mode { kCreate, kRead, kWrite };

  StoreFile(const fs::path& path, Mode mode);
  ~StoreFile();

  const fs::path& path() const { return path_; }
  hid_t root() const { return file_.get(); }
  // Opens again for writing where it was opened for reading.
  void make_writable();
  void flush();

  // Throws InputError naming the path.
  [[noreturn]] void fail(const std::string& what) const;

  hdf5::Group group(hid_t parent, const std::string& name) const;
  hdf5::Group create_group(hid_t parent, const std::string& name) const;
  std::vector<std::string> names(const hdf5::Group& group) const;

  // Only what write() makes: external files, virtual datasets and filters are refused.
  hdf5::Dataset dataset(hid_t parent, const std::string& name) const;
  // Whether `bytes` are what the file stores; to be asked before so much is allocated.
  void check_extent(const std::string& name, const hdf5::Dataset& dataset, int64_t bytes) const;
  // Replaces a dataset of the same name.
  void write(hid_t parent, const std::string& name, hid_t type, hid_t space,
             const void* data) const;

  int64_t integer(hid_t parent, const char* name) const;
  void write_attribute(hid_t parent, const char* name, hid_t type, const void* value) const;

 private:
  void open(Mode mode);
  // Throws ResourceError unless `done`; call at once after what may have failed: it adds HDF5's
  // reason.
  void expect_written(bool done, const std::string& what) const;

  fs::path path_;
  hdf5::FileHandle file_;
  Mode mode_;
};

}  // namespace halftone
