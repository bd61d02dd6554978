#include "io/store_file.h"

#include "core/error.h"
#include "core/log.h"

namespace halftone {

using namespace hdf5;

namespace {

// New-style groups take a tenth of the old ones' bytes. The superblock of 1.8 has a checksum but no
// mark of an unclean end, which would keep a killed run's store from being opened.
Properties file_access() {
  Properties access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_libver_bounds(access.get(), H5F_LIBVER_V18, H5F_LIBVER_V18);
  // Locks fail on network file systems without a lock service; the plan decides who writes.
  H5Pset_file_locking(access.get(), false, true);
  return access;
}

}  // namespace

StoreFile::StoreFile(const fs::path& path, Mode mode) : path_(path), mode_(mode) {
  open(mode);
}

StoreFile::~StoreFile() {
  const QuietErrors quiet;
  file_.reset();
}

void StoreFile::open(Mode mode) {
  const Properties access = file_access();
  file_.reset();
  if (mode == Mode::kCreate) {
    const Properties properties = creation(H5P_FILE_CREATE);
    file_ = FileHandle(H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, properties.get(), access.get()));
    expect_written(file_.valid(), "the beginning");
  } else if (mode == Mode::kWrite) {
    file_ = FileHandle(H5Fopen(path_.c_str(), H5F_ACC_RDWR, access.get()));
    expect_written(file_.valid(), "more");
  } else {
    file_ = FileHandle(H5Fopen(path_.c_str(), H5F_ACC_RDONLY, access.get()));
    if (!file_.valid()) fail(concat("not a readable calibration store", reason()));
  }
  mode_ = mode;
}

void StoreFile::make_writable() {
  if (mode_ == Mode::kRead) open(Mode::kWrite);
}

void StoreFile::flush() {
  if (mode_ == Mode::kRead) return;
  expect_written(H5Fflush(file_.get(), H5F_SCOPE_GLOBAL) >= 0, "the buffers");
  File::open_for_writing(path_).sync();
}

void StoreFile::fail(const std::string& what) const {
  throw InputError(concat("'", path_.string(), "': ", what));
}

void StoreFile::expect_written(bool done, const std::string& what) const {
  if (done) return;
  throw ResourceError(concat("cannot write ", what, " of '", path_.string(), "'", reason()));
}

Group StoreFile::group(hid_t parent, const std::string& name) const {
  const Member kind = member(parent, name);
  if (kind == Member::kNone) fail(concat("the group '", name, "' is missing"));
  if (kind != Member::kGroup) fail(concat("'", name, "' is not a readable group of this file"));
  return Group(H5Gopen2(parent, name.c_str(), H5P_DEFAULT));
}

Group StoreFile::create_group(hid_t parent, const std::string& name) const {
  const Properties properties = creation(H5P_GROUP_CREATE);
  Group created(H5Gcreate2(parent, name.c_str(), H5P_DEFAULT, properties.get(), H5P_DEFAULT));
  expect_written(created.valid(), concat("the group '", name, "'"));
  return created;
}

std::vector<std::string> StoreFile::names(const Group& group) const {
  std::vector<std::string> names;
  if (!list(group.get(), names)) fail(concat("cannot list a group", reason()));
  return names;
}

Dataset StoreFile::dataset(hid_t parent, const std::string& name) const {
  const Member kind = member(parent, name);
  if (kind == Member::kNone) fail(concat("the dataset '", name, "' is missing"));
  if (kind != Member::kDataset) fail(concat("'", name, "' is not a readable dataset of this file"));
  Dataset opened(H5Dopen2(parent, name.c_str(), H5P_DEFAULT));
  const Properties properties(H5Dget_create_plist(opened.get()));
  if (H5Pget_layout(properties.get()) != H5D_CONTIGUOUS ||
      H5Pget_external_count(properties.get()) != 0) {
    fail(concat("the dataset '", name, "' is not stored in one piece in this file"));
  }
  return opened;
}

void StoreFile::check_extent(const std::string& name, const Dataset& dataset, int64_t bytes) const {
  hsize_t file_bytes = 0;
  const bool known = H5Fget_filesize(file_.get(), &file_bytes) >= 0;
  const hsize_t stored = H5Dget_storage_size(dataset.get());
  const auto expected = static_cast<hsize_t>(bytes);
  if (!known || stored != expected || expected > file_bytes) {
    fail(concat("'", name, "' should take ", bytes, " bytes, but ", stored,
                " are stored in a file of ", file_bytes));
  }
}

void StoreFile::write(hid_t parent, const std::string& name, hid_t type, hid_t space,
                      const void* data) const {
  const std::string what = concat("the dataset '", name, "'");
  if (member(parent, name) != Member::kNone) {
    expect_written(H5Ldelete(parent, name.c_str(), H5P_DEFAULT) >= 0, what);
  }
  const Properties properties = creation(H5P_DATASET_CREATE);
  // The bytes have their place at once and are written once.
  H5Pset_alloc_time(properties.get(), H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER);
  const Dataset created(
      H5Dcreate2(parent, name.c_str(), type, space, H5P_DEFAULT, properties.get(), H5P_DEFAULT));
  expect_written(created.valid(), what);
  expect_written(H5Dwrite(created.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, what);
}

int64_t StoreFile::integer(hid_t parent, const char* name) const {
  if (H5Aexists(parent, name) <= 0) fail(concat("the attribute '", name, "' is missing"));
  const Attribute attribute(H5Aopen(parent, name, H5P_DEFAULT));
  const Type type(H5Aget_type(attribute.get()));
  const Space space(H5Aget_space(attribute.get()));
  int64_t value = 0;
  if (H5Tequal(type.get(), H5T_STD_I64LE) <= 0 ||
      H5Sget_simple_extent_type(space.get()) != H5S_SCALAR ||
      H5Aread(attribute.get(), H5T_NATIVE_INT64, &value) < 0) {
    fail(concat("the attribute '", name, "' is not one 64-bit integer"));
  }
  return value;
}

void StoreFile::write_attribute(hid_t parent, const char* name, hid_t type,
                                const void* value) const {
  const Space space(H5Screate(H5S_SCALAR));
  const Attribute attribute(
      H5Aexists(parent, name) > 0
          ? H5Aopen(parent, name, H5P_DEFAULT)
          : H5Acreate2(parent, name, type, space.get(), H5P_DEFAULT, H5P_DEFAULT));
  const std::string what = concat("the attribute '", name, "'");
  expect_written(attribute.valid(), what);
  expect_written(H5Awrite(attribute.get(), type, value) >= 0, what);
}

}  // namespace halftone
