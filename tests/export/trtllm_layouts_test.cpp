// Every layout of every family and format, put together again by rules of its own, and the way
// back.
#include <gtest/gtest.h>

#include <random>

#include "core/error.h"
#include "core/log.h"
#include "dist/byte_gather.h"
#include "export/check_trtllm.h"
#include "export/hf_layout.h"
#include "export/quant_config.h"
#include "export/reshard.h"
#include "export/sidecars.h"
#include "export/trtllm_export.h"
#include "export/trtllm_layout.h"
#include "io/safetensors_header.h"
#include "tests/core/temporary_folder.h"
#include "tests/export/decoder_gatherer.h"
#include "tests/export/encoder_decoder_gatherer.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

constexpr const char* kRest = "rest.safetensors";

// AWQ in blocks that divide the sizes of small models.
Recipe int4_recipe(int block) {
  return parse_recipe(
      concat("imports: {all_off: units/all_off, default_disabled: ",
             "units/default_disabled}\nquantize:\n  algorithm: {method: awq_lite}\n",
             "  quant_cfg:\n    - $import: all_off\n",
             "    - {quantizer_name: '*weight_quantizer', cfg: {num_bits: 4, ",
             "block_sizes: {-1: ", block, "}}}\n    - $import: default_disabled\n"),
      "int4.yaml", {});
}

Recipe recipe_for(const std::string& format, const std::string& cache) {
  Recipe recipe = format.starts_with("int4:") ? int4_recipe(std::stoi(format.substr(5)))
                                              : load_preset(format, "ptq");
  add_kv_cache(recipe, cache);
  recipe.fused_scales = true;
  return recipe;
}

// Scalars and input vectors that the layout stores once for several linears have one key.
std::string key_of(const TensorSpec& spec) {
  const size_t dot = spec.name.rfind('.');
  const std::string suffix = spec.name.substr(dot + 1);
  const bool scalar = spec.shape.empty() && (suffix == "weight_scale" || suffix == "input_scale" ||
                                             suffix == "weight_scale_2");
  if (!scalar && suffix != "pre_quant_scale") return spec.name;
  std::string module = spec.name.substr(0, dot);
  const size_t leaf_begin = module.rfind('.') + 1;
  const std::string leaf = module.substr(leaf_begin);
  const bool expert = module.find("expert") != std::string::npos;
  for (const char* each : {"q_proj", "k_proj", "v_proj", "q", "k", "v"}) {
    if (leaf == each) module.replace(leaf_begin, leaf.size(), "qkv");
  }
  for (const char* each : {"gate_proj", "up_proj", "w1", "w3"}) {
    if (expert && leaf == each) module.replace(leaf_begin, leaf.size(), "gate_up");
  }
  if (const size_t at = module.find(".experts."); suffix == "input_scale" && at != module.npos) {
    module.erase(at + 9, module.find('.', at + 9) - at - 9);
  }
  return module + "." + suffix;
}

std::string random_data(const TensorSpec& spec) {
  const std::string key = key_of(spec);
  std::mt19937 random(static_cast<unsigned>(std::hash<std::string>()(key)));
  std::uniform_real_distribution<float> values(0.5f, 2.0f);
  std::string data(static_cast<size_t>(spec.bytes()), '\0');
  const auto put = [&](size_t at, const auto& element) {
    std::memcpy(data.data() + at, &element, sizeof(element));
  };
  for (size_t at = 0; at < data.size(); at += static_cast<size_t>(size_of(spec.dtype))) {
    const float value = values(random);
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    if (spec.dtype == DType::kF32) {
      put(at, value);
    } else if (spec.dtype == DType::kBF16) {
      put(at, static_cast<uint16_t>(bits >> 16));
    } else if (spec.dtype == DType::kF16) {
      put(at, static_cast<_Float16>(value));
    } else {
      for (int64_t i = 0; i < size_of(spec.dtype); ++i) {
        data[at + static_cast<size_t>(i)] = static_cast<char>(bits >> (3 * i));
      }
    }
  }
  return data;
}

// A unified checkpoint of random bytes, as quantize would lay it out, in a folder.
class Unified {
 public:
  Unified(const std::string& model_folder, const std::string& format, const std::string& cache)
      : source_(data_folder() / model_folder),
        model_(make_model(source_)),
        layout_(source_, *model_),
        target_(plan_target(*model_, recipe_for(format, cache))) {
    const HfLayout hf =
        plan_hf_export(layout_, *model_, target_, /*max_shard_bytes=*/100'000).layout;
    for (const HfLayout::OutputFile& planned : hf.files) {
      File file = File::create(folder_.path() / planned.name);
      file.write_at(0, planned.layout.header.data(), std::ssize(planned.layout.header));
      for (const auto& [name, info] : planned.layout.tensors) {
        const std::string data = random_data({name, info.dtype, info.shape});
        file.write_at(info.offset, data.data(), info.bytes);
        tensors_[name] = {info.dtype, info.shape, data};
      }
      file.close();
    }
    write_index(hf, folder_.path());
    write_configs(source_, make_quant_config(*model_, target_, layout_), folder_.path());
    checkpoint_.emplace(folder_.path());
    form_.emplace(UnifiedForm{family_of(source_), *model_, target_.stages, source_.config(),
                              model_dtype(source_), halftone::tensors_of(*checkpoint_)});
  }
  Unified(const Unified&) = delete;
  Unified& operator=(const Unified&) = delete;

  const UnifiedForm& form() const { return *form_; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const TensorFile& tensors() const { return tensors_; }

 private:
  TemporaryFolder folder_;
  Checkpoint source_;
  std::unique_ptr<Model> model_;
  SourceLayout layout_;
  TargetPlan target_;
  TensorFile tensors_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<UnifiedForm> form_;
};

// What the plan makes, in memory.
std::map<std::string, std::string> files_of(const BytePlan& plan) {
  std::vector<size_t> all(plan.files.size());
  for (size_t f = 0; f < all.size(); ++f) all[f] = f;
  const ByteGatherer gatherer(plan, all);
  std::map<std::string, std::string> files;
  std::vector<char> piece;
  for (const size_t f : all) {
    for (int64_t i = 0; i < gatherer.pieces_of(f); ++i) {
      gatherer.gather(f, i, piece);
      files[plan.files[f].name].append(piece.data(), piece.size());
    }
  }
  return files;
}

TensorFile parse(const std::string& name, const std::string& file) {
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  const std::string_view header = std::string_view(file).substr(8, length);
  TensorFile tensors;
  for (const auto& [tensor, info] :
       parse_safetensors_header(header, std::ssize(file), name).tensors) {
    tensors[tensor] = {
        info.dtype, info.shape,
        file.substr(static_cast<size_t>(info.offset), static_cast<size_t>(info.bytes))};
  }
  return tensors;
}

class Layouts : public testing::Test {
 protected:
  // Rank files of one layout; whether they are what they must be is for the caller.
  struct Made {
    ReshardPlan plan;
    std::map<std::string, std::string> files;

    Ranks ranks(const Parallelism& parallel, const std::string& part = "") const {
      std::vector<TensorFile> tensors;
      for (int64_t r = 0; r < parallel.ranks(); ++r) {
        const std::string name = concat(part, part.empty() ? "" : "/", "rank", r, ".safetensors");
        tensors.push_back(parse(name, files.at(name)));
      }
      return {std::move(tensors), parallel.tp, parallel.pp};
    }
  };
  static Made make(const Unified& unified, const Parallelism& parallel) {
    Made made{plan_trtllm(unified.form(), parallel), {}};
    BytePlan bytes;
    add_sharded(made.plan, unified.checkpoint(), "", kRest, bytes);
    made.files = files_of(bytes);
    return made;
  }

  static void check_found(const TensorFile& found, const TensorFile& tensors) {
    for (const auto& [name, tensor] : found) {
      require(tensors.count(name) > 0, name, "not in the unified checkpoint");
      require(tensors.at(name) == tensor, name, "differs");
    }
  }

  // The unified files, byte for byte.
  static void check_way_back(const Unified& unified, const Made& made) {
    const TemporaryFolder folder;
    for (const auto& [name, bytes] : made.files) {
      fs::create_directories((folder.path() / name).parent_path());
      File file = File::create(folder.path() / name);
      file.write_at(0, bytes.data(), std::ssize(bytes));
      file.close();
    }
    require(check_rank_headers(made.plan, folder.path(), folder.path() / kRest).empty(), kRest,
            "rank files that are not what the plan says");
    const BytePlan back =
        plan_unified(made.plan, folder.path(), folder.path() / kRest, unified.checkpoint());
    for (const auto& [name, bytes] : files_of(back)) {
      require(bytes == read_text_file(unified.checkpoint().directory() / name), name,
              "does not come back");
    }
  }

  int made_ = 0;
  int refused_ = 0;
};

const std::vector<std::string> kDecoders{"gemma3-1b",    "gemma3-4b",    "llama-3.1", "llama-3.2",
                                         "mixtral-8x7b", "nemotron-nas", "phi3-mini", "phi3.5-moe",
                                         "phi4",         "phi4-mini",    "qwen2-moe", "qwen2.5",
                                         "qwen3",        "qwen3-moe"};
const std::set<std::string> kMixtures{"mixtral-8x7b", "phi3.5-moe", "qwen2-moe", "qwen3-moe"};
const std::set<std::string> kWidthsOf16{"llama-3.1", "mixtral-8x7b", "nemotron-nas",
                                        "phi3-mini", "phi3.5-moe",   "qwen3-moe"};
struct FormatCase {
  const char* format;
  const char* cache;
};
constexpr std::array kFormats{FormatCase{"fp8", "fp8"}, FormatCase{"fp8_pc_pt", "none"},
                              FormatCase{"int8_sq", "fp8_cast"}, FormatCase{"int4:8", "none"},
                              FormatCase{"nvfp4", "nvfp4"}};

bool is_carried(const std::string& family, const std::string& format) {
  if (format == "nvfp4") return kWidthsOf16.count(family) > 0;
  const bool rows = format == "int8_sq" || format == "fp8_pc_pt";
  return !rows || kMixtures.count(family) == 0;
}

TEST_F(Layouts, EveryDecoderGivesTheUnifiedTensorsBack) {
  for (const std::string& family : kDecoders) {
    for (const FormatCase& each : kFormats) {
      if (!is_carried(family, each.format)) continue;
      SCOPED_TRACE(concat(family, " in ", each.format));
      const Unified unified("archs/" + family, each.format, each.cache);
      const DecoderShape shape(unified.checkpoint().config(), unified.tensors());
      std::optional<Made> last;
      for (const int64_t tp : {1, 2, 4}) {
        for (const int64_t pp : {1, 2, 4}) {
          SCOPED_TRACE(concat("tp ", tp, " pp ", pp));
          const Parallelism parallel{tp, pp};
          if (const std::string why = shape.why_not(unified.tensors(), tp, pp); !why.empty()) {
            EXPECT_THROW(check_trtllm(unified.form(), parallel), UsageError) << why;
            ++refused_;
            continue;
          }
          ASSERT_NO_THROW(check_trtllm(unified.form(), parallel));
          last = make(unified, parallel);
          try {
            Ranks ranks = last->ranks(parallel);
            DecoderGatherer gatherer(ranks, shape, unified.tensors());
            gatherer.gather();
            check_found(gatherer.found(), unified.tensors());
            for (const auto& [name, tensor] : unified.tensors()) {
              const bool ours = name.starts_with(shape.prefix) || name.starts_with("lm_head");
              require(!ours || gatherer.found().count(name) > 0, name, "no rank holds it");
            }
          } catch (const std::exception& error) {
            ADD_FAILURE() << error.what();
          }
          ++made_;
        }
      }
      ASSERT_TRUE(last) << "no layout divides";
      EXPECT_NO_THROW(check_way_back(unified, *last));
    }
  }
  // 54 pairs of family and format, 9 layouts each.
  EXPECT_EQ(made_, 266);
  EXPECT_EQ(refused_, 220);
}

TEST_F(Layouts, BlocksOf128AndFamiliesOfOtherSizes) {
  for (const FormatCase& each : {FormatCase{"w4a8_awq", "fp8"}, FormatCase{"int4_awq", "none"},
                                 FormatCase{"nvfp4", "none"}, FormatCase{"int4:64", "none"}}) {
    SCOPED_TRACE(each.format);
    const Unified unified("models/nano-llama", each.format, each.cache);
    const DecoderShape shape(unified.checkpoint().config(), unified.tensors());
    for (const int64_t tp : {1, 2, 4}) {
      const Parallelism parallel{tp, 2};
      if (!shape.why_not(unified.tensors(), tp, 2).empty()) {
        EXPECT_THROW(check_trtllm(unified.form(), parallel), UsageError);
        continue;
      }
      ASSERT_NO_THROW(check_trtllm(unified.form(), parallel));
      const Made made = make(unified, parallel);
      Ranks ranks = made.ranks(parallel);
      DecoderGatherer gatherer(ranks, shape, unified.tensors());
      EXPECT_NO_THROW(gatherer.gather());
      EXPECT_NO_THROW(check_found(gatherer.found(), unified.tensors()));
      EXPECT_EQ(gatherer.found().size(), unified.tensors().size());
      EXPECT_NO_THROW(check_way_back(unified, made));
      ++made_;
    }
  }
  EXPECT_EQ(made_, 7);  // 1 of blocks of 128 twice, 3 of nvfp4, 2 of blocks of 64
}

TEST_F(Layouts, EncodersAndDecodersGiveTheUnifiedTensorsBack) {
  for (const std::string family : {"t5-v1.0", "t5-v1.1", "whisper"}) {
    for (const char* format : {"fp8", "int8_sq", "fp8_pc_pt", "int4:2"}) {
      if (std::string(format) == "int4:2" && family == "t5-v1.1") continue;
      SCOPED_TRACE(concat(family, " in ", format));
      const Unified unified("archs/" + family, format, "none");
      const Json& config = unified.checkpoint().config();
      std::optional<Made> last;
      for (const int64_t tp : {1, 2, 4, 5}) {
        for (const int64_t pp : {1, 2, 4}) {
          SCOPED_TRACE(concat("tp ", tp, " pp ", pp));
          const Parallelism parallel{tp, pp};
          if (EncoderDecoderGatherer::layers_of(config, true) % pp != 0 ||
              EncoderDecoderGatherer::layers_of(config, false) % pp != 0) {
            EXPECT_THROW(check_trtllm(unified.form(), parallel), UsageError);
            continue;
          }
          try {
            check_trtllm(unified.form(), parallel);
          } catch (const UsageError&) {
            ++refused_;
            continue;
          }
          last = make(unified, parallel);
          try {
            EncoderDecoderGatherer gatherer(config, unified.tensors());
            for (const std::string part : {"encoder", "decoder"}) {
              Ranks ranks = last->ranks(parallel, part);
              gatherer.gather(part, ranks);
            }
            check_found(gatherer.found(), unified.tensors());
            EXPECT_EQ(gatherer.found().size(), unified.tensors().size());
          } catch (const std::exception& error) {
            ADD_FAILURE() << error.what();
          }
          ++made_;
        }
      }
      ASSERT_TRUE(last) << "no layout divides";
      EXPECT_NO_THROW(check_way_back(unified, *last));
    }
  }
  EXPECT_EQ(made_, 54);
  EXPECT_EQ(refused_, 22);  // 5 ranks for 4 heads, 4 for rows or bytes that do not divide
}

}  // namespace
}  // namespace halftone::test
