#pragma once

#include <functional>
#include <string>
#include <vector>

#include "calibrate/target_plan.h"
#include "export/finding.h"
#include "export/quant_config.h"

namespace halftone {

// The serving engines whose rules are known (formats-and-hf-export.md, 7).
enum class Engine : uint8_t { kVllm, kSglang, kTrtllm };

const char* name_of(Engine engine);
std::vector<std::string> engine_names();
// "vllm,trtllm"; a name that is unknown is a UsageError.
std::vector<Engine> engines_of(const std::string& list);

// A unified checkpoint as an engine sees it: one that exists, or one that is planned.
struct ServedCheckpoint {
  const Model& model;
  const std::vector<StagePlan>& stages;
  const QuantConfig& config;
  std::function<bool(const std::string&)> has_file;  // by its name in the folder
};

// What keeps `engine` from serving it with tensor parallelism over `tp` GPUs. The rules are tables:
// formats, caches, spelling of excluded modules, files, and the sizes that shards must divide by.
Findings check_engine(Engine engine, int64_t tp, const ServedCheckpoint& served);

}  // namespace halftone
