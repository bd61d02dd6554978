#include <cmath>

#include "model/config_reader.h"
#include "model/rope.h"

namespace halftone {
namespace {

using Kind = RopeConfig::Kind;

Kind rope_kind(const std::string& type, const std::string& key, const ConfigReader& reader) {
  if (type == "default") return Kind::kDefault;
  if (type == "linear") return Kind::kLinear;
  if (type == "llama3") return Kind::kLlama3;
  if (type == "yarn") return Kind::kYarn;
  if (type == "longrope" || type == "su") return Kind::kLongRope;
  reader.fail("rope type '", type, "' is not supported in '", key,
              "'; supported: default, linear, llama3, yarn, longrope, su");
}

double required(const ConfigReader& parameters, const char* key) {
  if (!parameters.has(key)) parameters.fail("the key '", key, "' is missing");
  return parameters.positive_or(key, 1.0);
}

// The length that the frequencies were trained for. A value beside the parameters goes first, as
// Phi-3 has it.
double original_positions(const ConfigReader& config, const ConfigReader& parameters,
                          const RopeDefaults& defaults) {
  const char* key = "original_max_position_embeddings";
  if (config.has(key)) return config.positive_or(key, 1.0);
  if (parameters.has(key)) return parameters.positive_or(key, 1.0);
  if (defaults.original_max_positions > 0.0) return defaults.original_max_positions;
  if (config.has("max_position_embeddings")) {
    return config.positive_or("max_position_embeddings", 1.0);
  }
  parameters.fail("the key '", key, "' is missing");
}

double yarn_scale(double factor, double weight) {
  return factor <= 1.0 ? 1.0 : 0.1 * weight * std::log(factor) + 1.0;
}

void read_yarn(const ConfigReader& config, const ConfigReader& parameters, RopeConfig& rope) {
  rope.factor = parameters.has("factor")
                    ? required(parameters, "factor")
                    : required(config, "max_position_embeddings") / rope.original_max_positions;
  const double mscale = parameters.number_or("mscale", 0.0);
  rope.mscale_all_dim = parameters.number_or("mscale_all_dim", 0.0);
  rope.multiplier = yarn_scale(rope.factor, 1.0);
  if (mscale != 0.0 && rope.mscale_all_dim != 0.0) {
    rope.multiplier =
        yarn_scale(rope.factor, mscale) / yarn_scale(rope.factor, rope.mscale_all_dim);
  }
  rope.multiplier = parameters.positive_or("attention_factor", rope.multiplier);
  rope.beta_fast = parameters.positive_or("beta_fast", 32.0);
  rope.beta_slow = parameters.positive_or("beta_slow", 1.0);
  rope.truncate = parameters.flag_or("truncate", true);
}

std::vector<double> read_factors(const ConfigReader& parameters, const char* key) {
  const std::vector<double> factors = parameters.numbers(key);
  if (factors.empty()) parameters.fail("the key '", key, "' is missing or empty");
  for (const double factor : factors) {
    if (!(factor > 0.0) || !std::isfinite(factor)) {
      parameters.fail("'", key, "' must hold positive numbers, found ", factor);
    }
  }
  return factors;
}

void read_longrope(const ConfigReader& config, const ConfigReader& parameters, RopeConfig& rope) {
  rope.short_factors = read_factors(parameters, "short_factor");
  rope.long_factors = read_factors(parameters, "long_factor");
  const double original = rope.original_max_positions;
  const double ratio = parameters.has("factor")
                           ? required(parameters, "factor")
                           : required(config, "max_position_embeddings") / original;
  rope.factor = ratio;
  double scale = ratio <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(ratio) / std::log(original));
  if (!std::isfinite(scale)) {
    parameters.fail("'original_max_position_embeddings' must be above 1, found ", original);
  }
  scale = parameters.positive_or("attention_factor", scale);
  rope.multiplier = parameters.positive_or("short_mscale", scale);
  rope.long_multiplier = parameters.positive_or("long_mscale", scale);
}

}  // namespace

RopeConfig read_rope(const Json& json, const std::string& source, const RopeDefaults& defaults) {
  const ConfigReader config(json, source);
  static const Json kNothing = Json::object();
  ConfigReader parameters(kNothing, source);
  std::string type_key = "rope_scaling";
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!config.has(key)) continue;
    parameters = config.object(key);
    type_key = key;
  }
  // One set for each kind of layer: families with several kinds read them one by one.
  if (parameters.has("full_attention")) parameters = parameters.object("full_attention");
  RopeConfig rope;
  rope.theta = config.positive_or("rope_theta", defaults.theta);
  rope.theta = parameters.positive_or("rope_theta", rope.theta);
  rope.partial = config.positive_or("partial_rotary_factor", defaults.partial);
  rope.partial = parameters.positive_or("partial_rotary_factor", rope.partial);
  std::string type = parameters.text_or("rope_type", "");
  if (type.empty()) type = parameters.text_or("type", "default");
  rope.kind = rope_kind(type, type_key, config);
  if (rope.kind == Kind::kDefault) return rope;
  if (rope.kind == Kind::kLinear || rope.kind == Kind::kLlama3) {
    rope.factor = required(parameters, "factor");
  }
  if (rope.kind != Kind::kLinear) {
    rope.original_max_positions = original_positions(config, parameters, defaults);
  }
  if (rope.kind == Kind::kYarn) {
    read_yarn(config, parameters, rope);
  } else if (rope.kind == Kind::kLongRope) {
    read_longrope(config, parameters, rope);
  } else if (rope.kind == Kind::kLlama3) {
    rope.low_freq_factor = required(parameters, "low_freq_factor");
    rope.high_freq_factor = required(parameters, "high_freq_factor");
  }
  return rope;
}

int64_t rotary_dim(const RopeConfig& rope, int64_t head_dim, const std::string& source) {
  const auto dim = static_cast<int64_t>(static_cast<double>(head_dim) * rope.partial);
  if (rope.partial > 1.0 || dim < 2 || dim % 2 != 0) {
    throw InputError(concat(source, ": the rotating part of a head must be even and positive: ",
                            "partial_rotary_factor ", rope.partial, " of head_dim ", head_dim,
                            " gives ", dim));
  }
  for (const auto& [key, factors] : {std::pair("short_factor", &rope.short_factors),
                                     std::pair("long_factor", &rope.long_factors)}) {
    if (rope.kind == Kind::kLongRope && static_cast<int64_t>(factors->size()) != dim / 2) {
      throw InputError(concat(source, ": '", key, "' must hold ", dim / 2, " numbers (half of the ",
                              dim, " rotating dimensions), found ", factors->size()));
    }
  }
  return dim;
}

}  // namespace halftone
