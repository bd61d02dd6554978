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
  summary["peak_memory"] = peak_json(result);
  summary["memory"] = memory_json(result.predicted, result.host_bytes, result.device_bytes);
  summary["rows_per_call"] = rows_json(result);
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
          {"resumed_from_stage", 0}};
}

}  // namespace halftone
