#include "engine/stage_times.h"

#include <algorithm>

#include "core/log.h"
#include "core/trace.h"
#include "dist/agreement.h"

namespace halftone {
namespace {

std::vector<std::string> stage_names(const Model& model) {
  std::vector<std::string> names;
  for (const StageSpec& stage : model.stages()) names.push_back(stage.name);
  return names;
}

}  // namespace

Json stage_times(const Model& model, const Cluster& cluster) {
  if (cluster.trace == nullptr) return nullptr;
  const std::vector<std::string> names = stage_names(model);
  // One more for what comes behind the last stage.
  Trace::Sums sums = cluster.trace->sums(names.size() + 1);
  double waited = 0.0;
  for (const auto& stage : sums) waited += stage[static_cast<size_t>(SpanKind::kWait)];
  double exposed = std::min(1.0, waited / std::max(1e-9, cluster.trace->seconds()));
  cluster.control.all_reduce(&exposed, 1, DType::kF64, ReduceOp::kMax);
  cluster.control.all_reduce(sums.front().data(), static_cast<int64_t>(sums.size() * kSpanKinds),
                             DType::kF64, ReduceOp::kMax);
  Json stages = Json::array();
  for (size_t s = 0; s < sums.size(); ++s) {
    Json times{{"stage", s < names.size() ? names[s] : "end"}};
    for (size_t a = 0; a < kSpanKinds; ++a) times[name_of(static_cast<SpanKind>(a))] = sums[s][a];
    stages.push_back(times);
  }
  return {{"stages", stages}, {"exposed_io", exposed}};
}

void write_trace(const fs::path& path, const Model& model, const Cluster& cluster) {
  const int rank = cluster.control.rank();
  const Trace& trace = *cluster.trace;
  if (trace.dropped() > 0) {
    log_warn("the trace leaves out ", trace.dropped(), " spans beyond the limit");
  }
  const Json mine = trace.events(rank, stage_names(model));
  const std::vector<std::string> texts = gather_texts(cluster.control, mine.dump());
  if (rank != 0) return;
  Json events = Json::array();
  for (const std::string& text : texts) {
    for (Json& event : Json::parse(text)) events.push_back(std::move(event));
  }
  write_text_file(path, Json{{"displayTimeUnit", "ms"}, {"traceEvents", events}}.dump() + "\n");
}

}  // namespace halftone
