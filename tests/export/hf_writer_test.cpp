#include "export/hf_writer.h"

#include <gtest/gtest.h>

#include <array>

#include "core/sha256.h"
#include "export/staged_output.h"
#include "tests/io/held_bytes.h"
#include "tests/model/tiny_checkpoint.h"
#include "tests/support/shared_folder.h"

namespace halftone::test {
namespace {

// Writes a made-up checkpoint of ten tensors in several files, each tensor by one of the ranks.
class HfWriterTest : public testing::Test {
 protected:
  HfWriterTest() {
    folder_.on_first([&] {
      fs::create_directories(folder_.path() / "source");
      write_checkpoint(folder_.path() / "source", tiny_config(),
                       tiny_tensors(*tiny_model(tiny_config())));
      write_text_file(folder_.path() / "source" / "tokenizer.json", "{}");
    });
    for (int i = 0; i < 10; ++i) {
      const std::string name = "t" + std::to_string(i);
      const auto file = static_cast<size_t>(i % 3);
      layout_.file_of[name] = file;
      specs_[file].push_back({name, DType::kU8, {100 * i}});
      layout_.total_bytes += 100 * i;
    }
    for (size_t file = 0; file < 3; ++file) {
      layout_.files.push_back(
          {"f" + std::to_string(file) + ".safetensors", plan_safetensors(specs_[file])});
    }
  }

  static std::vector<char> bytes_of(int tensor) {
    return std::vector<char>(static_cast<size_t>(100 * tensor), static_cast<char>('a' + tensor));
  }

  // All steps up to publish(); returns the digest.
  std::string assemble(HfWriter& writer) {
    Communicator& ranks = folder_.ranks();
    staged_.begin(ranks, false);
    writer.begin(ranks, false);
    for (int i = 0; i < 10; ++i) {
      if (i % ranks.size() == ranks.rank())
        writer.write("t" + std::to_string(i), held(bytes_of(i)));
    }
    writer.complete(ranks, Checkpoint(folder_.path() / "source"), {{{"a", 1}}, {{"b", 2}}});
    std::vector<int> a_host_each;
    for (int r = 0; r < ranks.size(); ++r) a_host_each.push_back(r);
    std::string digest = writer.digest(a_host_each, ranks);
    writer.write_summary(ranks, "{}\n");
    return digest;
  }

  void expect_finished() const {
    for (int i = 0; i < 10; ++i) {
      const auto& file = layout_.files[static_cast<size_t>(i % 3)];
      const SafetensorsFile written(out_ / file.name);
      const std::string name = "t" + std::to_string(i);
      EXPECT_EQ(written.read_all(written.tensors().at(name)), bytes_of(i));
    }
    for (const char* name : {"config.json", "hf_quant_config.json", "tokenizer.json",
                             "model.safetensors.index.json", "summary.json"}) {
      EXPECT_TRUE(fs::exists(out_ / name)) << name;
    }
  }

  // What lies beside the source.
  std::vector<std::string> beside() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path())) {
      if (entry.path().filename() != "source") names.push_back(entry.path().filename());
    }
    return names;
  }

  SharedFolder folder_;
  fs::path out_ = folder_.path() / "out";
  StagedOutput staged_{out_};
  std::array<std::vector<TensorSpec>, 3> specs_;
  HfLayout layout_;
  WriteQueue queue_{512};
};

TEST_F(HfWriterTest, AppearsWhenItIsComplete) {
  HfWriter writer(staged_.partial(), layout_, queue_);
  const std::string digest = assemble(writer);
  EXPECT_FALSE(fs::exists(out_));
  EXPECT_EQ(digest, digest_of_directory(staged_.partial()));
  folder_.ranks().barrier();
  staged_.publish(folder_.ranks(), false);
  expect_finished();
  EXPECT_EQ(beside(), std::vector<std::string>{"out"});
  EXPECT_EQ(digest, digest_of_directory(out_)) << "summary.json does not count";
}

TEST_F(HfWriterTest, OverwritesOnlyWhenAsked) {
  folder_.on_first([&] {
    fs::create_directories(out_);
    write_text_file(out_ / "old", "keep me");
  });
  HfWriter writer(staged_.partial(), layout_, queue_);
  assemble(writer);
  if (folder_.first()) {
    expect_error<UsageError>(
        // Thrown before the ranks meet.
        [&] { staged_.publish(folder_.ranks(), false); },
        "exists already: choose another --out, or pass --overwrite");
    EXPECT_EQ(read_text_file(out_ / "old"), "keep me");
    EXPECT_TRUE(fs::exists(staged_.partial()));
  }
  folder_.ranks().barrier();
  staged_.publish(folder_.ranks(), true);
  expect_finished();
  EXPECT_FALSE(fs::exists(out_ / "old"));
  EXPECT_EQ(beside(), std::vector<std::string>{"out"});
}

TEST_F(HfWriterTest, RemovesWhatAnInterruptedRunLeft) {
  folder_.on_first([&] {
    fs::create_directories(folder_.path() / ".out.partial" / "deep");
    write_text_file(folder_.path() / ".out.partial" / "f0.safetensors", std::string(100000, 'x'));
    write_text_file(folder_.path() / ".out.partial" / "stray.json", "{}");
  });
  HfWriter writer(staged_.partial(), layout_, queue_);
  assemble(writer);
  staged_.publish(folder_.ranks(), false);
  expect_finished();
  EXPECT_FALSE(fs::exists(out_ / "stray.json"));
  EXPECT_EQ(beside(), std::vector<std::string>{"out"});
}

TEST_F(HfWriterTest, GivesBackAnOutputThatWasSetAside) {
  folder_.on_first([&] {
    fs::create_directories(folder_.path() / ".out.replaced");
    write_text_file(folder_.path() / ".out.replaced" / "old", "keep me");
  });
  staged_.begin(folder_.ranks(), false);
  EXPECT_EQ(read_text_file(out_ / "old"), "keep me");
  folder_.ranks().barrier();
}

TEST_F(HfWriterTest, FilesHaveTheirSizeFromTheStart) {
  HfWriter writer(staged_.partial(), layout_, queue_);
  staged_.begin(folder_.ranks(), false);
  writer.begin(folder_.ranks(), false);
  for (const auto& file : layout_.files) {
    EXPECT_EQ(static_cast<int64_t>(fs::file_size(staged_.partial() / file.name)),
              file.layout.file_bytes);
  }
  folder_.ranks().barrier();
}

TEST_F(HfWriterTest, NeedsAFolderThatCanBeWritten) {
  if (!folder_.first()) return;
  const StagedOutput staged(folder_.path() / "source" / "tokenizer.json" / "out");
  EXPECT_THROW(staged.begin(folder_.ranks(), false), ResourceError);
}

}  // namespace
}  // namespace halftone::test
