#include "engine/summary.h"

namespace halftone {
namespace {

Json phases_json(const std::map<std::string, Phase>& phases) {
  Json json = Json::object();
  for (const auto& [name, phase] : phases) {
    json[name] = {{"seconds", phase.seconds}, {"bytes", phase.bytes}};
    if (phase.bytes > 0 && phase.seconds > 0.0) {
      json[name]["gb_per_s"] = static_cast<double>(phase.bytes) / 1e9 / phase.seconds;
    }
  }
  return json;
}

Json output_json(const QuantizeResult::Output& output) {
  return {{"format", output.format},
          {"dir", output.dir.string()},
          {"digest", output.digest},
          {"bytes", output.bytes},
          {"bits_per_weight", output.bits_per_weight},
          {"fallbacks", output.fallbacks}};
}

Json memory_json(const QuantizeResult& result) {
  return {{"host_bytes", result.host_bytes}, {"device_bytes", result.device_bytes}};
}

Json accounting_json(const Accounting& accounting) {
  Json dropped = Json::array();
  for (const DroppedTensor& tensor : accounting.dropped) {
    dropped.push_back({{"tensor", tensor.name}, {"reason", tensor.reason}});
  }
  return {{"quantized", accounting.quantized.size()},
          {"copied", accounting.copied.size()},
          {"extra", accounting.extra},
          {"dropped", dropped}};
}

}  // namespace

Json make_summary(const Target& target, const QuantizeResult& result, size_t index,
                  const LinearRecords& records, const Json& resolved) {
  Json summary = output_json(result.outputs[index]);
  summary["recipe"] = to_json(target.plan.recipe);
  summary["tensors"] = accounting_json(target.hf.accounting);
  summary["phases"] = phases_json(result.phases);
  summary["peak_memory"] = memory_json(result);
  summary["residency"] = name_of(result.residency);
  summary["weights_held_bytes"] = result.weights_held_bytes;
  summary["configuration"] = resolved;
  summary["linears"] = Json::object();
  for (const auto& [name, record] : records) summary["linears"][name] = record;
  return summary;
}

Json to_json(const QuantizeResult& result) {
  Json outputs = Json::array();
  for (const QuantizeResult::Output& output : result.outputs)
    outputs.push_back(output_json(output));
  return {{"outputs", outputs},
          {"phases", phases_json(result.phases)},
          {"peak_memory", memory_json(result)},
          {"residency", name_of(result.residency)},
          {"weights_held_bytes", result.weights_held_bytes},
          {"resumed_from_stage", result.resumed_from_stage}};
}

QuantizeResult quantize_result_of(const Json& json, const std::string& source) {
  QuantizeResult result;
  for (const Json& output : json.value("outputs", Json::array())) {
    result.outputs.push_back({json_member<std::string>(output, "format", source),
                              json_member<std::string>(output, "dir", source),
                              json_member<std::string>(output, "digest", source),
                              json_member<int64_t>(output, "bytes", source),
                              json_member<double>(output, "bits_per_weight", source),
                              json_member<int64_t>(output, "fallbacks", source)});
  }
  for (const auto& [name, phase] : json.value("phases", Json::object()).items()) {
    result.phases[name] = {json_member<double>(phase, "seconds", source),
                           json_member<int64_t>(phase, "bytes", source)};
  }
  const Json memory = json.value("peak_memory", Json::object());
  result.host_bytes = json_member<int64_t>(memory, "host_bytes", source);
  result.device_bytes = json_member<int64_t>(memory, "device_bytes", source);
  result.weights_held_bytes = json_member<int64_t>(json, "weights_held_bytes", source);
  result.residency = residency_named(json_member<std::string>(json, "residency", source), source);
  result.resumed_from_stage =
      static_cast<size_t>(json_member<int64_t>(json, "resumed_from_stage", source));
  return result;
}

}  // namespace halftone
