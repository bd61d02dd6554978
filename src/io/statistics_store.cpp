#include "io/statistics_store.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"
#include "core/log.h"
#include "io/hdf5.h"
#include "io/shown_name.h"
#include "io/store_file.h"
#include "kernels/check.h"

namespace halftone {

using namespace hdf5;

namespace {

constexpr int64_t kSchema = 1;
constexpr int64_t kMaxElements = int64_t{1} << 31;
constexpr int kMaxRank = 8;
constexpr size_t kMaxTextBytes = size_t{1} << 30;

void check_name(const StoreFile& file, const std::string& name, const char* what) {
  if (name.empty() || name == "." || name.find_first_of(std::string("/\0", 2)) != name.npos) {
    file.fail(concat(shown_name(name), " cannot be the name of a ", what,
                     ": it must not be empty, '.' or hold '/'"));
  }
}

Group meta_of(const StoreFile& file) {
  return file.group(file.root(), "meta");
}

Group linears_of(const StoreFile& file) {
  return file.group(file.root(), "linears");
}

Group progress_of(const StoreFile& file) {
  return file.group(file.root(), "progress");
}

Group linear_of(const StoreFile& file, const std::string& name) {
  check_name(file, name, "linear");
  const Group linears = linears_of(file);
  if (member(linears.get(), name) == Member::kNone) {
    file.fail(concat("there are no statistics of the linear '", name, "'"));
  }
  return file.group(linears.get(), name);
}

void write_progress(const StoreFile& file, int64_t stages_done, int64_t stages) {
  const Group progress = progress_of(file);
  file.write_attribute(progress.get(), "stages_done", H5T_STD_I64LE, &stages_done);
  file.write_attribute(progress.get(), "stages", H5T_STD_I64LE, &stages);
}

Type text_type(size_t bytes) {
  Type type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type.get(), std::max<size_t>(bytes, 1));
  H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  return type;
}

std::string read_text(const StoreFile& file, const Group& meta, const std::string& key) {
  const Dataset data = file.dataset(meta.get(), key);
  const Type type(H5Dget_type(data.get()));
  const Space space(H5Dget_space(data.get()));
  const size_t bytes = H5Tget_size(type.get());
  if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) != 0 ||
      H5Sget_simple_extent_type(space.get()) != H5S_SCALAR || bytes > kMaxTextBytes) {
    file.fail(concat("'", key, "' is not one string of fixed length"));
  }
  file.check_extent(key, data, static_cast<int64_t>(bytes));
  std::string text(bytes, '\0');
  if (H5Dread(data.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()) < 0) {
    file.fail(concat("cannot read the text '", key, "'", reason()));
  }
  text.resize(std::strlen(text.c_str()));
  return text;
}

std::vector<int64_t> shape_of(const StoreFile& file, const Dataset& data,
                              const std::string& where) {
  const Space space(H5Dget_space(data.get()));
  const int rank = H5Sget_simple_extent_ndims(space.get());
  if (H5Sget_simple_extent_type(space.get()) == H5S_NULL || rank < 0 || rank > kMaxRank) {
    file.fail(
        concat("'", where, "' has no values or rank ", rank, ", expected at most rank ", kMaxRank));
  }
  std::array<hsize_t, kMaxRank> dims{};
  H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr);
  return {dims.begin(), dims.begin() + rank};
}

}  // namespace

struct StatisticsStore::State {
  State(const fs::path& path, StoreFile::Mode mode) : file(path, mode) {}
  StoreFile file;
};

StatisticsStore::StatisticsStore(std::unique_ptr<State> state) : state_(std::move(state)) {}
StatisticsStore::~StatisticsStore() = default;
StatisticsStore::StatisticsStore(StatisticsStore&&) noexcept = default;
StatisticsStore& StatisticsStore::operator=(StatisticsStore&&) noexcept = default;

StatisticsStore StatisticsStore::create(const fs::path& path) {
  const QuietErrors quiet;
  auto state = std::make_unique<State>(path, StoreFile::Mode::kCreate);
  const StoreFile& file = state->file;
  const Group meta = file.create_group(file.root(), "meta");
  const std::string version = HALFTONE_VERSION;
  file.write_attribute(meta.get(), "schema", H5T_STD_I64LE, &kSchema);
  file.write_attribute(meta.get(), "halftone", text_type(version.size()).get(), version.data());
  file.create_group(file.root(), "linears");
  file.create_group(file.root(), "progress");
  write_progress(file, 0, 0);
  return StatisticsStore(std::move(state));
}

StatisticsStore StatisticsStore::open(const fs::path& path) {
  const QuietErrors quiet;
  // Gives the system's reason where there is one: HDF5 says less.
  File::open_for_reading(path).close();
  auto state = std::make_unique<State>(path, StoreFile::Mode::kRead);
  const StoreFile& file = state->file;
  const int64_t schema = file.integer(meta_of(file).get(), "schema");
  if (schema != kSchema) file.fail(concat("a store of schema ", schema, ", expected ", kSchema));
  linears_of(file);
  progress_of(file);
  return StatisticsStore(std::move(state));
}

void StatisticsStore::set_text(const std::string& key, const std::string& text) {
  const QuietErrors quiet;
  check_name(state_->file, key, "text");
  check(text.find('\0') == text.npos, "a stored text holds no NUL");
  check(text.size() <= kMaxTextBytes, "a stored text has at most 2^30 bytes");
  state_->file.make_writable();
  const Type type = text_type(text.size());
  const Space space(H5Screate(H5S_SCALAR));
  state_->file.write(meta_of(state_->file).get(), key, type.get(), space.get(), text.c_str());
}

std::string StatisticsStore::text(const std::string& key) const {
  const QuietErrors quiet;
  check_name(state_->file, key, "text");
  return read_text(state_->file, meta_of(state_->file), key);
}

std::map<std::string, std::string> StatisticsStore::texts() const {
  const QuietErrors quiet;
  const Group meta = meta_of(state_->file);
  std::map<std::string, std::string> result;
  for (const std::string& key : state_->file.names(meta)) {
    result.emplace(key, read_text(state_->file, meta, key));
  }
  return result;
}

void StatisticsStore::set_values(const std::string& linear, const std::string& dataset,
                                 const std::vector<float>& values,
                                 const std::vector<int64_t>& shape) {
  const QuietErrors quiet;
  check_name(state_->file, linear, "linear");
  check_name(state_->file, dataset, "dataset");
  check(shape.size() <= kMaxRank, "a dataset has at most 8 dimensions");
  std::vector<hsize_t> dims;
  int64_t count = 1;
  for (const int64_t size : shape) {
    check(size >= 0 && !__builtin_mul_overflow(count, size, &count), "a dataset's shape is sound");
    dims.push_back(static_cast<hsize_t>(size));
  }
  check(count == static_cast<int64_t>(values.size()), "a dataset has as many values as its shape");
  check(count <= kMaxElements, "a dataset has at most 2^31 values");

  state_->file.make_writable();
  const Group linears = linears_of(state_->file);
  const Group group = member(linears.get(), linear) == Member::kNone
                          ? state_->file.create_group(linears.get(), linear)
                          : state_->file.group(linears.get(), linear);
  const Space space(dims.empty()
                        ? H5Screate(H5S_SCALAR)
                        : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr));
  // HDF5 takes no null pointer, not even for nothing.
  const float none = 0.0f;
  state_->file.write(group.get(), dataset, H5T_IEEE_F32LE, space.get(),
                     values.empty() ? &none : values.data());
}

bool StatisticsStore::has(const std::string& linear, const std::string& dataset) const {
  const QuietErrors quiet;
  check_name(state_->file, linear, "linear");
  check_name(state_->file, dataset, "dataset");
  const Group linears = linears_of(state_->file);
  if (member(linears.get(), linear) == Member::kNone) return false;
  return member(state_->file.group(linears.get(), linear).get(), dataset) != Member::kNone;
}

StatisticsStore::Values StatisticsStore::values(const std::string& linear,
                                                const std::string& dataset) const {
  const QuietErrors quiet;
  const StoreFile& file = state_->file;
  check_name(file, dataset, "dataset");
  const std::string where = concat(linear, "/", dataset);
  const Dataset data = file.dataset(linear_of(file, linear).get(), dataset);
  const Type type(H5Dget_type(data.get()));
  if (H5Tequal(type.get(), H5T_IEEE_F32LE) <= 0) {
    file.fail(concat("'", where, "' is not F32 (little-endian)"));
  }
  Values result;
  result.shape = shape_of(file, data, where);
  int64_t count = 1;
  for (const int64_t size : result.shape) {
    if (size < 0 || __builtin_mul_overflow(count, size, &count) || count > kMaxElements) {
      file.fail(concat("'", where, "' has more than 2^31 values"));
    }
  }
  file.check_extent(where, data, count * int64_t{sizeof(float)});
  result.values.resize(static_cast<size_t>(count));
  if (count > 0 && H5Dread(data.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                           result.values.data()) < 0) {
    file.fail(concat("cannot read '", where, "'", reason()));
  }
  return result;
}

std::vector<std::string> StatisticsStore::linears() const {
  const QuietErrors quiet;
  return state_->file.names(linears_of(state_->file));
}

std::vector<std::string> StatisticsStore::datasets(const std::string& linear) const {
  const QuietErrors quiet;
  return state_->file.names(linear_of(state_->file, linear));
}

void StatisticsStore::set_progress(int64_t stages_done, int64_t stages) {
  const QuietErrors quiet;
  check(stages_done >= 0 && stages_done <= stages, "progress is between nothing and all");
  state_->file.make_writable();
  write_progress(state_->file, stages_done, stages);
}

int64_t StatisticsStore::stages_done() const {
  const QuietErrors quiet;
  const int64_t done = state_->file.integer(progress_of(state_->file).get(), "stages_done");
  if (done < 0 || done > stages()) {
    state_->file.fail(concat("progress is ", done, " of ", stages(), " stages"));
  }
  return done;
}

int64_t StatisticsStore::stages() const {
  const QuietErrors quiet;
  return state_->file.integer(progress_of(state_->file).get(), "stages");
}

void StatisticsStore::flush() {
  const QuietErrors quiet;
  state_->file.flush();
}

std::string hdf5_version() {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  H5get_libversion(&major, &minor, &release);
  return concat(major, '.', minor, '.', release);
}

}  // namespace halftone
