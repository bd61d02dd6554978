#include <hdf5.h>

#include <random>

#include "io/statistics_store.h"
#include "support.h"

namespace halftone {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Changes a sound store behind StatisticsStore's back, then expects an InputError and silence.
class HostileStoreTest : public testing::Test {
 protected:
  HostileStoreTest() {
    StatisticsStore store = StatisticsStore::create(path_);
    store.set_text("recipe", "{}");
    store.set_values("a", "good", {1.0f, 2.0f}, {2});
    store.set_progress(1, 2);
  }

  void change(const std::function<void(hid_t)>& act) const {
    const hid_t file = H5Fopen(path_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    ASSERT_GE(file, 0);
    act(file);
    ASSERT_GE(H5Fclose(file), 0);
  }
  void add_dataset(const char* name, hid_t type, const std::vector<hsize_t>& dims,
                   hid_t properties = H5P_DEFAULT) const {
    change([&](hid_t file) {
      const hid_t space = H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
      const hid_t data = H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
      EXPECT_GE(data, 0);
      H5Dclose(data);
      H5Sclose(space);
    });
  }
  static void replace_attribute(hid_t file, const char* group, const char* name, hid_t type,
                                int64_t value) {
    H5Adelete_by_name(file, group, name, H5P_DEFAULT);
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute =
        H5Acreate_by_name(file, group, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    EXPECT_GE(H5Awrite(attribute, H5T_NATIVE_INT64, &value), 0);
    H5Aclose(attribute);
    H5Sclose(space);
  }
  std::string refused(const std::function<void(const StatisticsStore&)>& act) const {
    testing::internal::CaptureStderr();
    const std::string message =
        test::message_of<InputError>([&] { act(StatisticsStore::open(path_)); });
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
    EXPECT_THAT(message, HasSubstr(path_.string()));
    return message;
  }
  std::string refused_to_open() const {
    return refused([](const StatisticsStore&) {});
  }
  std::string refused_values(const char* dataset) const {
    return refused([&](const StatisticsStore& store) { store.values("a", dataset); });
  }

  test::TemporaryFolder folder_;
  fs::path path_ = folder_ / "store.h5";
};

TEST_F(HostileStoreTest, NoStoreAtAll) {
  test::write_file(path_, "this is not HDF5");
  EXPECT_THAT(refused_to_open(), HasSubstr("not a readable calibration store"));
  test::write_file(path_, "");
  refused_to_open();
  fs::remove(path_);
  EXPECT_THAT(refused_to_open(), HasSubstr("No such file"));
  fs::create_directory(path_);
  EXPECT_THAT(refused_to_open(), HasSubstr("regular file"));
}

TEST_F(HostileStoreTest, EveryTruncationIsRefused) {
  const std::string bytes = read_text_file(path_);
  ASSERT_GT(bytes.size(), 500u);
  for (size_t size = 0; size < bytes.size(); size += size + 60 < bytes.size() ? 7 : 1) {
    test::write_file(path_, std::string_view(bytes).substr(0, size));
    refused_to_open();
  }
}

TEST_F(HostileStoreTest, MissingGroups) {
  for (const char* group : {"meta", "linears", "progress"}) {
    const std::string bytes = read_text_file(path_);
    change([&](hid_t file) { H5Ldelete(file, group, H5P_DEFAULT); });
    EXPECT_THAT(refused_to_open(), AllOf(HasSubstr(group), HasSubstr("missing")));
    add_dataset(group, H5T_IEEE_F32LE, {1});
    EXPECT_THAT(refused_to_open(), AllOf(HasSubstr(group), HasSubstr("not a readable group")));
    test::write_file(path_, bytes);
  }
}

TEST_F(HostileStoreTest, Schema) {
  change([](hid_t file) { replace_attribute(file, "meta", "schema", H5T_STD_I64LE, 2); });
  EXPECT_THAT(refused_to_open(), HasSubstr("schema 2, expected 1"));
  change([](hid_t file) { replace_attribute(file, "meta", "schema", H5T_STD_I32LE, 1); });
  EXPECT_THAT(refused_to_open(), HasSubstr("'schema' is not one 64-bit integer"));
  change([](hid_t file) { H5Adelete_by_name(file, "meta", "schema", H5P_DEFAULT); });
  EXPECT_THAT(refused_to_open(), HasSubstr("'schema' is missing"));
}

TEST_F(HostileStoreTest, Progress) {
  const auto done = [](const StatisticsStore& store) { store.stages_done(); };
  change([](hid_t file) { replace_attribute(file, "progress", "stages_done", H5T_STD_I64LE, 9); });
  EXPECT_THAT(refused(done), HasSubstr("9 of 2"));
  change([](hid_t file) { replace_attribute(file, "progress", "stages_done", H5T_STD_I64LE, -1); });
  EXPECT_THAT(refused(done), HasSubstr("-1 of 2"));
  change([](hid_t file) { H5Adelete_by_name(file, "progress", "stages_done", H5P_DEFAULT); });
  EXPECT_THAT(refused(done), HasSubstr("'stages_done' is missing"));
}

TEST_F(HostileStoreTest, WrongTypes) {
  add_dataset("linears/a/f64", H5T_IEEE_F64LE, {2});
  add_dataset("linears/a/f32be", H5T_IEEE_F32BE, {2});
  add_dataset("linears/a/i32", H5T_STD_I32LE, {2});
  for (const char* name : {"f64", "f32be", "i32"}) {
    EXPECT_THAT(refused_values(name), HasSubstr("is not F32")) << name;
  }
  add_dataset("meta/number", H5T_IEEE_F32LE, {1});
  add_dataset("meta/strings", H5T_C_S1, {2});
  for (const char* key : {"number", "strings"}) {
    EXPECT_THAT(refused([&](const StatisticsStore& store) { store.text(key); }),
                HasSubstr("is not one string"));
  }
  refused([](const StatisticsStore& store) { store.texts(); });
}

TEST_F(HostileStoreTest, WrongKinds) {
  change([](hid_t file) {
    H5Gclose(H5Gcreate2(file, "linears/a/group", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  });
  EXPECT_THAT(refused_values("group"), HasSubstr("not a readable dataset"));
  add_dataset("linears/b", H5T_IEEE_F32LE, {1});
  EXPECT_THAT(refused([](const StatisticsStore& store) { store.datasets("b"); }),
              HasSubstr("not a readable group"));
}

TEST_F(HostileStoreTest, WrongRanks) {
  add_dataset("linears/a/rank9", H5T_IEEE_F32LE, std::vector<hsize_t>(9, 1));
  EXPECT_THAT(refused_values("rank9"), HasSubstr("rank 9"));
  change([](hid_t file) {
    const hid_t space = H5Screate(H5S_NULL);
    H5Dclose(H5Dcreate2(file, "linears/a/null", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT,
                        H5P_DEFAULT));
    H5Sclose(space);
  });
  EXPECT_THAT(refused_values("null"), HasSubstr("no values"));
}

// Storage of such a dataset is only made when it is written, so the file stays small.
TEST_F(HostileStoreTest, HugeShapes) {
  add_dataset("linears/a/many", H5T_IEEE_F32LE, {hsize_t{1} << 32});
  EXPECT_THAT(refused_values("many"), HasSubstr("more than 2^31"));
  add_dataset("linears/a/product", H5T_IEEE_F32LE, {hsize_t{1} << 30, 2, hsize_t{1} << 20});
  EXPECT_THAT(refused_values("product"), HasSubstr("more than 2^31"));
  add_dataset("linears/a/unwritten", H5T_IEEE_F32LE, {hsize_t{1} << 30});
  EXPECT_THAT(refused_values("unwritten"), HasSubstr("should take 4294967296 bytes"));
  ASSERT_LT(fs::file_size(path_), 1u << 20);
}

TEST_F(HostileStoreTest, DataElsewhere) {
  test::write_file(folder_ / "outside", std::string(8, 's'));
  const hid_t external = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_external(external, (folder_ / "outside").c_str(), 0, 8);
  add_dataset("linears/a/external", H5T_IEEE_F32LE, {2}, external);
  H5Pclose(external);
  EXPECT_THAT(refused_values("external"), HasSubstr("not stored in one piece"));

  const hid_t chunked = H5Pcreate(H5P_DATASET_CREATE);
  const hsize_t chunk = 2;
  H5Pset_chunk(chunked, 1, &chunk);
  add_dataset("linears/a/chunked", H5T_IEEE_F32LE, {2}, chunked);
  H5Pclose(chunked);
  EXPECT_THAT(refused_values("chunked"), HasSubstr("not stored in one piece"));
}

TEST_F(HostileStoreTest, LinksElsewhere) {
  fs::copy_file(path_, folder_ / "other.h5");
  change([&](hid_t file) {
    H5Lcreate_external((folder_ / "other.h5").c_str(), "/linears/a/good", file, "linears/a/ext",
                       H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/linears/a/good", file, "linears/a/soft", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/nowhere", file, "linears/b", H5P_DEFAULT, H5P_DEFAULT);
  });
  EXPECT_THAT(refused_values("ext"), HasSubstr("not a readable dataset"));
  EXPECT_THAT(refused_values("soft"), HasSubstr("not a readable dataset"));
  EXPECT_THAT(refused([](const StatisticsStore& store) { store.datasets("b"); }),
              HasSubstr("not a readable group"));
}

TEST_F(HostileStoreTest, ChangedBitsGiveValuesOrInputErrors) {
  const std::string bytes = read_text_file(path_);
  std::mt19937 random(7);
  int refused = 0;
  testing::internal::CaptureStderr();
  for (int i = 0; i < 500; ++i) {
    std::string changed = bytes;
    changed[random() % changed.size()] ^= static_cast<char>(1 << random() % 8);
    test::write_file(path_, changed);
    try {
      const StatisticsStore store = StatisticsStore::open(path_);
      for (const std::string& linear : store.linears()) {
        for (const std::string& dataset : store.datasets(linear)) store.values(linear, dataset);
      }
      store.texts();
      store.stages_done();
    } catch (const InputError&) {
      ++refused;
    }
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_GT(refused, 50);
}

}  // namespace
}  // namespace halftone
