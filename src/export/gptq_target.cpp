// The layout of AutoGPTQ and GPTQModel: qweight [in / 8, out], qzeros [groups, out / 8], scales F16
// [groups, out], g_idx [in]. checkpoint_format gptq, which all engines read: a zero point is stored
// as one less than it is.
#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "export/int4_target.h"
#include "export/int_words.h"
#include "export/library_targets.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

constexpr int32_t kZeros = 0x77777777;

at::Tensor groups_of_columns(int64_t in, int64_t group) {
  return at::arange(in, at::kInt).floor_divide(group);
}

class GptqForm : public StoredForm {
 public:
  explicit GptqForm(DType scales) : scales_(scales) {}

  std::vector<TensorSpec> tensors(const LinearFormat& format, int64_t out,
                                  int64_t in) const override {
    const int64_t groups = in / format.codec->block();
    return {{"qweight", DType::kI32, {in / 8, out}},
            {"qzeros", DType::kI32, {groups, out / 8}},
            {"scales", scales_, {groups, out}},
            {"g_idx", DType::kI32, {in}}};
  }

  PackedLinear encode(const std::string& module, const LinearFormat& format,
                      const PackedLinear& unified) const override {
    const at::Tensor codes_NK = int4_codes(unified.at("weight"));
    PackedLinear stored;
    stored["qweight"] = pack_words(codes_NK, 4).t().contiguous();
    stored["scales"] = int4_scales(module, unified.at("weight_scale"), scales_);
    stored["qzeros"] = at::full({stored.at("scales").size(0), codes_NK.size(0) / 8}, kZeros,
                                at::TensorOptions(at::kInt));
    stored["g_idx"] = groups_of_columns(codes_NK.size(1), format.codec->block());
    return stored;
  }

  PackedLinear decode(const std::string& module, const LinearFormat& format,
                      const PackedLinear& stored) const override {
    const at::Tensor& order = stored.at("g_idx");
    if (!at::equal(order, groups_of_columns(order.numel(), format.codec->block()))) {
      throw InputError(concat("'", module, ".g_idx' puts columns into groups out of order: ",
                              "weights in activation order cannot be read"));
    }
    if (!(stored.at("qzeros") == kZeros).all().item<bool>()) {
      throw InputError(concat("'", module, ".qzeros' has zero points other than 8 (stored as 7): ",
                              "asymmetric weights cannot be read yet"));
    }
    const at::Tensor words_NW = stored.at("qweight").t().contiguous();
    return {{"weight", packed_int4(unpack_words(words_NW, 4, words_NW.size(1) * 8))},
            {"weight_scale", stored.at("scales").to(at::kFloat).t().contiguous()}};
  }

 private:
  DType scales_;
};

std::shared_ptr<const StoredForm> form(DType scales) {
  return std::make_shared<const GptqForm>(scales);
}

// A rule of GPTQModel that leaves a module, or everything in it, as it is.
std::string skip_rule(const std::string& module, bool whole_layer) {
  std::string rule = "-:^";
  for (const char c : module) rule += c == '.' ? std::string("\\.") : std::string(1, c);
  return rule + (whole_layer ? "\\." : "$");
}

bool has_head(const QuantizedModules& modules) {
  return std::any_of(modules.quantized.begin(), modules.quantized.end(),
                     [](const auto& module) { return module.name == "lm_head"; });
}

Json config(const QuantizedModules& modules, const std::vector<StagePlan>& stages) {
  Json rules = Json::object();
  for (const std::string& name : modules.unquantized) {
    rules[skip_rule(name, false)] = Json::object();
  }
  for (const std::string& layer : modules.next_token) {
    rules[skip_rule(layer, true)] = Json::object();
  }
  return {{"bits", 4},
          {"checkpoint_format", "gptq"},
          {"desc_act", false},
          {"dynamic", rules},
          {"group_size", int4_group(modules, stages)},
          {"lm_head", has_head(modules)},
          {"quant_method", "gptq"},
          {"sym", true}};
}

StoredQuantization read(const Json& config, const std::string& source) {
  const auto format = json_member_or<std::string>(config, "checkpoint_format", "gptq", source);
  if (format != "gptq" || !json_member_or<bool>(config, "sym", true, source)) {
    throw InputError(concat(source, ": GPTQ weights of checkpoint_format '", format, "' and sym ",
                            config.value("sym", Json()).dump(),
                            " cannot be read; supported: symmetric ones of gptq"));
  }
  StoredQuantization stored = read_int4(config, {"bits"}, {"group_size"}, source);
  const auto rules = config.find("dynamic");
  if (rules == config.end() || !rules->is_object()) return stored;
  for (const auto& [rule, change] : rules->items()) {
    if (rule.starts_with("-:")) stored.excluded.push_back("re:" + rule.substr(2));
  }
  return stored;
}

}  // namespace

const LibraryTarget& gptq_target() {
  static const LibraryTarget target{"gptq",
                                    "gptq",
                                    "scales",
                                    /*one_format=*/true,
                                    &int4_problem,
                                    /*fp8_cache=*/false,
                                    &form,
                                    DType::kF16,
                                    &config,
                                    &read};
  return target;
}

}  // namespace halftone
