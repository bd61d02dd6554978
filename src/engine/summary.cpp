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
  if (!result.times.is_null()) summary.update(result.times);
  summary["peak_memory"] = memory_json(result);
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
          {"resumed_from_stage", 0}};
}

}  // namespace halftone
