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

Json peak_json(const QuantizeResult& result) {
  return {{"host_bytes", result.host_bytes}, {"device_bytes", result.device_bytes}};
}

// Null where memory sufficed for whole batches.
Json rows_json(const QuantizeResult& result) {
  return result.rows_per_call == INT64_MAX ? Json() : Json(result.rows_per_call);
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

Json to_json(const MemoryPlan& plan) {
  Json parts = Json::object();
  for (const MemoryPart& part : plan.parts) {
    parts[part.name] = {{"host_bytes", part.host_bytes}, {"device_bytes", part.device_bytes}};
  }
  return {{"host_bytes", plan.host_bytes},
          {"device_bytes", plan.device_bytes},
          {"stage", plan.peak_stage},
          {"phase", plan.peak_phase},
          {"parts", parts}};
}

Json memory_json(const MemoryPlan& predicted, int64_t host_bytes, int64_t device_bytes) {
  return {{"predicted", to_json(predicted)},
          {"measured", {{"host_bytes", host_bytes}, {"device_bytes", device_bytes}}}};
}

Json make_summary(const Target& target, const QuantizeResult& result, size_t index,
                  const LinearRecords& records, const Json& resolved) {
  Json summary = output_json(result.outputs[index]);
  summary["recipe"] = to_json(target.plan.recipe);
  summary["tensors"] = accounting_json(target.hf.accounting);
  summary["phases"] = phases_json(result.phases);
  if (!result.times.is_null()) summary.update(result.times);
  summary["peak_memory"] = peak_json(result);
  summary["memory"] = memory_json(result.predicted, result.host_bytes, result.device_bytes);
  summary["rows_per_call"] = rows_json(result);
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
          {"peak_memory", peak_json(result)},
          {"memory", memory_json(result.predicted, result.host_bytes, result.device_bytes)},
          {"rows_per_call", rows_json(result)},
          {"residency", name_of(result.residency)},
          {"weights_held_bytes", result.weights_held_bytes},
          {"resumed_from_stage", result.resumed_from_stage}};
}

static MemoryPlan memory_plan_of(const Json& json, const std::string& source) {
  MemoryPlan plan;
  plan.host_bytes = json_member<int64_t>(json, "host_bytes", source);
  plan.device_bytes = json_member<int64_t>(json, "device_bytes", source);
  plan.peak_stage = json_member<std::string>(json, "stage", source);
  plan.peak_phase = json_member<std::string>(json, "phase", source);
  const Json parts = json.value("parts", Json::object());
  for (const auto& [name, part] : parts.items()) {
    plan.parts.push_back({name, json_member<int64_t>(part, "host_bytes", source),
                          json_member<int64_t>(part, "device_bytes", source)});
  }
  return plan;
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
  const Json phases = json.value("phases", Json::object());
  for (const auto& [name, phase] : phases.items()) {
    result.phases[name] = {json_member<double>(phase, "seconds", source),
                           json_member<int64_t>(phase, "bytes", source)};
  }
  const Json memory = json.value("peak_memory", Json::object());
  result.host_bytes = json_member<int64_t>(memory, "host_bytes", source);
  result.device_bytes = json_member<int64_t>(memory, "device_bytes", source);
  result.weights_held_bytes = json_member<int64_t>(json, "weights_held_bytes", source);
  result.residency = residency_named(json_member<std::string>(json, "residency", source), source);
  result.predicted = memory_plan_of(
      json.value("memory", Json::object()).value("predicted", Json::object()), source);
  const Json rows = json.value("rows_per_call", Json());
  if (!rows.is_null()) result.rows_per_call = json_member<int64_t>(json, "rows_per_call", source);
  result.resumed_from_stage =
      static_cast<size_t>(json_member<int64_t>(json, "resumed_from_stage", source));
  return result;
}

}  // namespace halftone
