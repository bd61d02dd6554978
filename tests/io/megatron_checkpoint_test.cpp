// On checkpoints that Megatron-core 0.16.1 wrote of its own GPTModel on two ranks: qwen2 with
// tensor parallelism 2, qwen3-moe with expert parallelism 2. The .safetensors beside them hold what
// the ranks' parameters were, gathered under Hugging Face's names.
#include "io/megatron_checkpoint.h"

#include <random>

#include "io/checkpoint.h"
#include "support.h"

namespace halftone {
namespace {

using testing::HasSubstr;

const fs::path kData = fs::path(HALFTONE_TEST_DATA) / "megatron";

class Megatron : public testing::Test {
 protected:
  Megatron() { fs::copy(kData / "qwen2", checkpoint_); }

  std::string metadata() const { return read_text_file(checkpoint_ / ".metadata"); }
  // Every occurrence.
  void replace_in_metadata(const std::string& from, const std::string& to) {
    std::string bytes = metadata();
    ASSERT_NE(bytes.find(from), bytes.npos) << from;
    for (size_t at = 0; (at = bytes.find(from, at)) != bytes.npos; at += to.size()) {
      bytes.replace(at, from.size(), to);
    }
    test::write_file(checkpoint_ / ".metadata", bytes);
  }
  std::string refused() {
    return test::message_of<InputError>([&] { const Checkpoint checkpoint(checkpoint_); });
  }

  test::TemporaryFolder folder_;
  fs::path checkpoint_ = folder_ / "iter_0000003";
};

void expect_same(const fs::path& folder, const std::string& expected) {
  const Checkpoint found(folder);
  const SafetensorsFile file(kData / expected);
  ASSERT_EQ(found.names().size(), file.tensors().size());
  for (const auto& [name, info] : file.tensors()) {
    ASSERT_TRUE(found.has(name)) << name;
    EXPECT_EQ(found.info(name).shape, info.shape) << name;
    EXPECT_EQ(found.info(name).dtype, info.dtype) << name;
    const std::vector<char> bytes = file.read_all(info);
    EXPECT_EQ(found.read_all(name), bytes) << name;
    // From anywhere to anywhere, elements cut in two among them.
    const int64_t begin = info.bytes / 3 + 1;
    std::vector<char> part(static_cast<size_t>(info.bytes - begin - 1));
    found.read(name, begin, std::ssize(part), part.data());
    EXPECT_EQ(part, std::vector<char>(bytes.begin() + begin, bytes.end() - 1)) << name;
  }
}

TEST_F(Megatron, HoldsWhatTheRanksHad) {
  expect_same(kData / "qwen2", "qwen2.safetensors");
  expect_same(kData / "qwen3-moe", "qwen3-moe.safetensors");
}

TEST_F(Megatron, ConfigurationFollowsFromTheArguments) {
  const Json config = Checkpoint(kData / "qwen3-moe").config();
  EXPECT_EQ(config.at("architectures"), Json({"Qwen3MoeForCausalLM"}));
  EXPECT_EQ(config.at("vocab_size"), 30);
  EXPECT_EQ(config.at("num_experts"), 4);
  EXPECT_EQ(config.at("moe_intermediate_size"), 8);
  EXPECT_EQ(config.at("num_experts_per_tok"), 2);
  EXPECT_EQ(config.at("norm_topk_prob"), true);
  EXPECT_EQ(config.at("rms_norm_eps"), 1e-6);
  EXPECT_EQ(config.at("torch_dtype"), "bfloat16");
  EXPECT_EQ(Checkpoint(kData / "qwen2").config().at("model_type"), "qwen2");
}

TEST_F(Megatron, IsFoundFromItsParent) {
  test::write_file(folder_ / "latest_checkpointed_iteration.txt", "3\n");
  EXPECT_EQ(Checkpoint(folder_.path()).names(), Checkpoint(checkpoint_).names());
  test::write_file(folder_ / "latest_checkpointed_iteration.txt", "../../etc\n");
  EXPECT_THAT(test::message_of<InputError>([&] { const Checkpoint checkpoint(folder_.path()); }),
              HasSubstr("expected the number of an iteration"));
  test::write_file(folder_ / "latest_checkpointed_iteration.txt", "4");
  EXPECT_THAT(test::message_of<InputError>([&] { const Checkpoint checkpoint(folder_.path()); }),
              HasSubstr("iter_0000004"));
}

TEST_F(Megatron, ExtraStatesAreDroppedWithAReason) {
  const Checkpoint checkpoint(checkpoint_);
  ASSERT_EQ(checkpoint.dropped().size(), 8U);
  EXPECT_THAT(checkpoint.dropped().front().name, HasSubstr("_extra_state"));
  EXPECT_THAT(checkpoint.dropped().front().reason, HasSubstr("Transformer Engine"));
}

TEST_F(Megatron, AnotherConfigurationDecides) {
  Json config = Checkpoint(checkpoint_).config();
  config["vocab_size"] = 32;
  config["quantization_config"] = {{"quant_method", "fp8"}};
  test::write_file(folder_ / "config.json", config.dump());
  const Checkpoint whole(checkpoint_, folder_.path());
  EXPECT_EQ(whole.info("lm_head.weight").shape, (std::vector<int64_t>{32, 16}));
  EXPECT_FALSE(whole.config().contains("quantization_config"));
  EXPECT_EQ(whole.files(), folder_.path());
  EXPECT_NE(whole.fingerprint(), Checkpoint(checkpoint_).fingerprint());

  const auto refused_with = [&](const char* key, const Json& value) {
    Json other = config;
    other[key] = value;
    test::write_file(folder_ / "config.json", other.dump());
    return test::message_of<InputError>(
        [&] { const Checkpoint checkpoint(checkpoint_, folder_.path()); });
  };
  EXPECT_THAT(refused_with("vocab_size", 33), HasSubstr("fewer rows than the vocabulary"));
  EXPECT_THAT(refused_with("num_hidden_layers", 3), HasSubstr("the 3 layers of config.json"));
  EXPECT_THAT(refused_with("num_key_value_heads", 4), HasSubstr("4 heads in 4 groups"));
  EXPECT_THAT(refused_with("model_type", "gemma"), HasSubstr("'gemma' are not read"));
  EXPECT_THAT(refused_with("num_attention_heads", 0), HasSubstr("expected num_hidden_layers"));
}

TEST_F(Megatron, RefusesFilesThatDoNotFit) {
  fs::rename(checkpoint_ / "__1_1.distcp", folder_ / "away");
  EXPECT_THAT(refused(), HasSubstr("__1_1.distcp' is missing"));
  // That of another rank has the same size and other chunks.
  fs::copy(checkpoint_ / "__0_0.distcp", checkpoint_ / "__1_1.distcp");
  EXPECT_THAT(refused(), HasSubstr("__1_1.distcp"));
  fs::copy(folder_ / "away", checkpoint_ / "__1_1.distcp", fs::copy_options::overwrite_existing);
  EXPECT_EQ(Checkpoint(checkpoint_).names().size(), 27U);
  const auto size = fs::file_size(checkpoint_ / "__1_1.distcp");
  fs::resize_file(checkpoint_ / "__1_1.distcp", size - 100);
  EXPECT_THAT(refused(), HasSubstr("but the file has"));
}

TEST_F(Megatron, RefusesNamesThatLeadOut) {
  replace_in_metadata("__0_0.distcp", "../0_.distcp");
  EXPECT_THAT(refused(), HasSubstr("'../0_.distcp'; expected the plain name"));
}

TEST_F(Megatron, RefusesForeignMetadata) {
  replace_in_metadata("BytesStorageMetadata", "BytesStorageMetadatb");
  EXPECT_THAT(refused(), HasSubstr("BytesStorageMetadatb' is not allowed"));
}

TEST_F(Megatron, RefusesDTypesThatItCannotRead) {
  replace_in_metadata(
      "\x8c\x08"
      "bfloat16",
      "\x8c\x09"
      "complex64");
  EXPECT_THAT(refused(), HasSubstr("'torch.complex64' is not supported"));
}

TEST_F(Megatron, RefusesTensorsWithoutAPlace) {
  replace_in_metadata("decoder.final_layernorm.weight", "decoder.final_layernorm.weighu");
  EXPECT_THAT(refused(), HasSubstr("has no place in a model of the type 'qwen2'"));
}

TEST_F(Megatron, RefusesArgumentsThatRunCode) {
  const std::string bytes = read_text_file(checkpoint_ / "common.pt");
  std::string hostile = bytes;
  const size_t at = hostile.find("cargparse\nNamespace\n");
  ASSERT_NE(at, hostile.npos);
  hostile.replace(at, 20, "cposix\nsystemsystem\n");
  test::write_file(checkpoint_ / "common.pt", hostile);
  EXPECT_THAT(refused(), HasSubstr("'posix.systemsystem' is not allowed"));
  fs::remove(checkpoint_ / "common.pt");
  EXPECT_THAT(refused(), HasSubstr("--source-config"));
}

// Whatever the bytes: an InputError, or tensors that can be read to their ends.
void open_and_read(const fs::path& folder, int64_t& opened) {
  try {
    const Checkpoint checkpoint(folder);
    for (const std::string& name : checkpoint.names()) checkpoint.read_all(name);
    ++opened;
  } catch (const InputError&) {
  }
}

TEST_F(Megatron, DamagedBytesNeverCrash) {
  std::mt19937 random(20);
  int64_t opened = 0;
  for (const char* file : {".metadata", "common.pt", "__0_0.distcp"}) {
    const std::string sound = read_text_file(checkpoint_ / file);
    const int cases = file == std::string(".metadata") ? 1500 : 300;
    for (int i = 0; i < cases; ++i) {
      std::string bytes = sound;
      for (uint32_t flips = 1 + random() % 3; flips > 0; --flips) {
        bytes[random() % bytes.size()] = static_cast<char>(random());
      }
      if (random() % 8 == 0) bytes.resize(random() % bytes.size());
      test::write_file(checkpoint_ / file, bytes);
      open_and_read(checkpoint_, opened);
    }
    test::write_file(checkpoint_ / file, sound);
  }
  // Weights and names of what is dropped may be any.
  EXPECT_GT(opened, 100);
}

}  // namespace
}  // namespace halftone
