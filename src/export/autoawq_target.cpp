// The layout of AutoAWQ's GEMM version: qweight [in, out / 8], its codes in an order of their own
// within each word, qzeros [groups, out / 8] in the same order, scales F16 [groups, out].
#include <ATen/ATen.h>

#include "core/error.h"
#include "core/log.h"
#include "export/int4_target.h"
#include "export/int_words.h"
#include "export/library_targets.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

constexpr SlotOrder kOrder{0, 2, 4, 6, 1, 3, 5, 7};
constexpr int32_t kZeros = static_cast<int32_t>(0x88888888u);

class AwqForm : public StoredForm {
 public:
  explicit AwqForm(DType scales) : scales_(scales) {}

  std::vector<TensorSpec> tensors(const LinearFormat& format, int64_t out,
                                  int64_t in) const override {
    const int64_t groups = in / format.codec->block();
    return {{"qweight", DType::kI32, {in, out / 8}},
            {"qzeros", DType::kI32, {groups, out / 8}},
            {"scales", scales_, {groups, out}}};
  }

  PackedLinear encode(const std::string& module, const LinearFormat& /*format*/,
                      const PackedLinear& unified) const override {
    const at::Tensor codes_KN = int4_codes(unified.at("weight")).t().contiguous();
    PackedLinear stored;
    stored["qweight"] = pack_words(codes_KN, 4, kOrder);
    stored["scales"] = int4_scales(module, unified.at("weight_scale"), scales_);
    stored["qzeros"] = at::full({stored.at("scales").size(0), codes_KN.size(1) / 8}, kZeros,
                                at::TensorOptions(at::kInt));
    return stored;
  }

  PackedLinear decode(const std::string& module, const LinearFormat& /*format*/,
                      const PackedLinear& stored) const override {
    if (!(stored.at("qzeros") == kZeros).all().item<bool>()) {
      throw InputError(concat("'", module, ".qzeros' has zero points other than 8: asymmetric ",
                              "weights cannot be read yet"));
    }
    const at::Tensor& words = stored.at("qweight");
    const at::Tensor codes_KN = unpack_words(words, 4, words.size(1) * 8, kOrder);
    return {{"weight", packed_int4(codes_KN.t().contiguous())},
            {"weight_scale", stored.at("scales").to(at::kFloat).t().contiguous()}};
  }

 private:
  DType scales_;
};

std::shared_ptr<const StoredForm> form(DType scales) {
  return std::make_shared<const AwqForm>(scales);
}

// Engines look for these names anywhere in a module's, so they are given in full.
Json config(const QuantizedModules& modules, const std::vector<StagePlan>& stages) {
  Json skipped = Json::array();
  for (const std::string& name : modules.unquantized) skipped.push_back(name);
  for (const std::string& layer : modules.next_token) skipped.push_back(layer + ".");
  return {{"bits", 4},
          {"group_size", int4_group(modules, stages)},
          {"modules_to_not_convert", skipped},
          {"quant_method", "awq"},
          {"version", "gemm"},
          {"zero_point", true}};
}

StoredQuantization read(const Json& config, const std::string& source) {
  const auto version = json_member_or<std::string>(config, "version", "gemm", source);
  if (version != "gemm" && version != "GEMM") {
    throw InputError(concat(source, ": version '", version, "' of AWQ's layout cannot be read; ",
                            "supported: gemm"));
  }
  StoredQuantization stored =
      read_int4(config, {"bits", "w_bit"}, {"group_size", "q_group_size"}, source);
  const Json skipped = config.value("modules_to_not_convert", Json());
  for (const Json& name : skipped.is_array() ? skipped : Json::array()) {
    if (name.is_string()) stored.excluded.push_back("*" + name.get<std::string>() + "*");
  }
  return stored;
}

}  // namespace

const LibraryTarget& autoawq_target() {
  static const LibraryTarget target{
      "autoawq",           "awq",         "scales",
      /*one_format=*/true, &int4_problem,
      /*fp8_cache=*/false, &form,         DType::kF16, &config, &read};
  return target;
}

}  // namespace halftone
