#include "formats/algorithm_options.h"

#include <stdexcept>

#include "core/log.h"

namespace halftone {
namespace {

using Type = OptionType;
constexpr double kMany = 1e9;
// The least that is more than nothing for multipliers, steps and ratios.
constexpr double kLeast = 1e-6;

AlgorithmOption layerwise() {
  return {"layerwise",
          "",
          Type::kLayerwise,
          0,
          0,
          Json::object(),
          "how ModelOpt goes layer by layer; halftone always does"};
}
AlgorithmOption alpha_step() {
  return {
      "alpha_step", "", Type::kNumber, 0.01, 1, 0.1, "distance of the exponents that are tried"};
}
AlgorithmOption sweep(bool fallback) {
  return {"fp8_scale_sweep",
          "",
          Type::kFlag,
          0,
          0,
          fallback,
          "static NVFP4 weights: try every E4M3 block scale"};
}

AlgorithmMethod max_method() {
  return {"max",
          "scales from the largest magnitudes",
          {{"distributed_sync", "", Type::kFlag, 0, 0, true, "accepted: all ranks always agree"},
           {"sync_expert_weight_amax", "", Type::kFlag, 0, 0, false,
            "the experts of a layer share the largest weight amax"},
           {"skip_forward_without_activation_calib", "", Type::kFlag, 0, 0, false,
            "accepted: no forward pass is ever made for nothing"},
           layerwise()}};
}

// What a search multiplies amax with.
AlgorithmOption start_multiplier() {
  return {"start_multiplier", "start", Type::kNumber, kLeast, 1000, 0.25, "smallest factor"};
}
AlgorithmOption stop_multiplier() {
  return {"stop_multiplier", "stop", Type::kNumber, kLeast, 1000, 4.0, "largest factor"};
}
AlgorithmOption step_size() {
  return {"step_size", "step", Type::kNumber, 1e-3, 1000, 0.1, "distance of the factors"};
}

AlgorithmMethod mse_method() {
  return {"mse",
          "weight scales of least squared error",
          {start_multiplier(), stop_multiplier(), step_size(), sweep(false), layerwise()}};
}

AlgorithmMethod local_hessian_method() {
  return {"local_hessian",
          "weight scales of least error on the layer's inputs",
          {start_multiplier(),
           stop_multiplier(),
           step_size(),
           sweep(true),
           {"block_size", "", Type::kInteger, 16, 16, 16, "inputs that share one Hessian"},
           {"debug", "", Type::kFlag, 0, 0, false, "accepted without effect"},
           layerwise()}};
}

AlgorithmMethod headroom_method() {
  return {
      "nvfp4_act_headroom",
      "NVFP4 input scales with room above what was seen",
      {{"anchor_percentile", "", Type::kNumber, 0, 100, 1.0, "percentile that is scaled by rho"},
       {"upper_percentile", "", Type::kNumber, 0, 100, 99.99, "percentile that must fit"},
       {"rho", "", Type::kNumber, kLeast, 28671.999, 16384.0, "scale over anchor, below 28672"},
       {"weight_scale_algorithm", "", Type::kAlgorithm, 0, 0, Json{{"method", "max"}},
        "how weights get their scales: max, mse or local_hessian"},
       layerwise()}};
}

AlgorithmMethod awq_clip_method() {
  return {"awq_clip",
          "weight blocks clipped where that helps the outputs",
          {{"max_co_batch_size", "", Type::kInteger, 1, kMany, 1024, "output rows at a time"},
           {"max_tokens_per_batch", "", Type::kInteger, 1, kMany, 64, "tokens taken of a batch"},
           {"min_clip_ratio", "", Type::kNumber, 0.01, 1, 0.5, "smallest part of amax"},
           {"shrink_step", "", Type::kNumber, 0.01, 1, 0.05, "distance of the parts"},
           layerwise()}};
}

AlgorithmMethod awq_full_method() {
  AlgorithmMethod method = awq_clip_method();
  method.name = "awq_full";
  method.help = "awq_lite, then awq_clip";
  method.options.insert(method.options.begin(), alpha_step());
  return method;
}

AlgorithmMethod gptq_method() {
  return {"gptq",
          "weights rounded one input at a time, errors moved to the inputs that follow",
          {{"perc_damp", "", Type::kNumber, 0, 1, 0.01, "damping over the mean diagonal"},
           {"block_size", "", Type::kInteger, 1, 65536, 128, "inputs between two large updates"},
           {"fused", "", Type::kFlag, 0, 0, false, "accepted: the results are the same"},
           {"act_order", "", Type::kFlag, 0, 0, false, "inputs of large diagonal first"},
           layerwise()}};
}

}  // namespace

const std::vector<AlgorithmMethod>& algorithm_methods() {
  static const std::vector<AlgorithmMethod> methods{
      max_method(),
      mse_method(),
      local_hessian_method(),
      headroom_method(),
      {"smoothquant",
       "INT8 with outliers moved from inputs to weights",
       {{"alpha", "", Type::kNumber, 0, 1, 1.0, "how much is moved"}, layerwise()}},
      {"awq_lite", "inputs scaled so that rounding hurts least", {alpha_step(), layerwise()}},
      awq_clip_method(),
      awq_full_method(),
      {"svdquant",
       "awq_lite, then a low-rank branch takes the largest part of the weight",
       {{"lowrank", "", Type::kInteger, 1, 65536, 32, "rank of the branch"},
        {"skip_layers", "", Type::kTexts, 0, 0, Json::array(), "globs of layers without a branch"},
        alpha_step(),
        layerwise()}},
      gptq_method(),
  };
  return methods;
}

const AlgorithmOption* AlgorithmMethod::find(const std::string& option) const {
  for (const AlgorithmOption& one : options) {
    if (one.name == option || (!option.empty() && one.other_name == option)) return &one;
  }
  return nullptr;
}

const AlgorithmMethod* find_algorithm_method(const std::string& name) {
  for (const AlgorithmMethod& method : algorithm_methods()) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

namespace {

[[noreturn]] void fail_wrong_use(const AlgorithmSpec& spec, const std::string& name) {
  throw std::logic_error(concat("'", spec.method, "' has no such option '", name, "'"));
}

const Json& value_of(const AlgorithmSpec& spec, const std::string& name) {
  const AlgorithmMethod* method = find_algorithm_method(spec.method);
  const AlgorithmOption* option = method == nullptr ? nullptr : method->find(name);
  if (option == nullptr) fail_wrong_use(spec, name);
  const auto given = spec.options.find(option->name);
  return given == spec.options.end() ? option->fallback : *given;
}

}  // namespace

double option(const AlgorithmSpec& spec, const std::string& name) {
  const Json& value = value_of(spec, name);
  if (value.is_boolean()) return value.get<bool>() ? 1.0 : 0.0;
  if (!value.is_number()) fail_wrong_use(spec, name);
  return value.get<double>();
}

int64_t integer_option(const AlgorithmSpec& spec, const std::string& name) {
  const Json& value = value_of(spec, name);
  if (!value.is_number_integer()) fail_wrong_use(spec, name);
  return value.get<int64_t>();
}

bool flag_option(const AlgorithmSpec& spec, const std::string& name) {
  const Json& value = value_of(spec, name);
  if (!value.is_boolean()) fail_wrong_use(spec, name);
  return value.get<bool>();
}

std::vector<std::string> texts_option(const AlgorithmSpec& spec, const std::string& name) {
  const Json& value = value_of(spec, name);
  if (!value.is_array()) fail_wrong_use(spec, name);
  return value.get<std::vector<std::string>>();
}

AlgorithmSpec algorithm_option(const AlgorithmSpec& spec, const std::string& name) {
  AlgorithmSpec nested;
  nested.options = value_of(spec, name);
  if (!nested.options.contains("method")) fail_wrong_use(spec, name);
  nested.method = nested.options.at("method").get<std::string>();
  nested.options.erase("method");
  nested.line = spec.line;
  return nested;
}

Json to_json(const AlgorithmSpec& spec) {
  if (spec.options.empty()) return spec.method;
  Json json{{"method", spec.method}};
  json.update(spec.options);
  return json;
}

}  // namespace halftone
