#include "engine/verify.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

void add(Findings more, Findings& findings) {
  findings.insert(findings.end(), std::make_move_iterator(more.begin()),
                  std::make_move_iterator(more.end()));
}

// The model's configuration is the source's; what tools rewrite as they please is left out.
Findings check_model_config(const Checkpoint& checkpoint, const Checkpoint& source) {
  constexpr std::array<std::string_view, 5> kRewritten{
      "quantization_config", "dtype", "torch_dtype", "transformers_version", "_name_or_path"};
  Findings findings;
  for (const auto& [key, value] : source.config().items()) {
    if (std::find(kRewritten.begin(), kRewritten.end(), key) != kRewritten.end()) continue;
    const auto found = checkpoint.config().find(key);
    if (found == checkpoint.config().end() || *found == value) continue;
    findings.push_back({"config-changed",
                        {},
                        "config.json",
                        concat(key, " ", value.dump().substr(0, 200), ", as in the source"),
                        found->dump().substr(0, 200),
                        value.is_structured()});
  }
  return findings;
}

QuantConfig stored_config(const Checkpoint& checkpoint) {
  QuantConfig config;
  config.quantization_config = checkpoint.config().at("quantization_config");
  const fs::path file = checkpoint.directory() / "hf_quant_config.json";
  if (fs::exists(file)) config.hf_quant_config = read_json_file(file);
  return config;
}

}  // namespace

VerifyReport verify_checkpoint(const Checkpoint& checkpoint, const Model& model,
                               const SourceLayout* source, const VerifyOptions& options,
                               const Cluster& cluster) {
  VerifyReport report;
  report.findings = check_configs(checkpoint);
  if (source != nullptr) {
    add(check_model_config(checkpoint, source->checkpoint()), report.findings);
  }
  HeaderCheck headers = check_headers(checkpoint, model, source);
  add(std::move(headers.findings), report.findings);
  const QuantConfig config = stored_config(checkpoint);
  const ServedCheckpoint served{model, headers.stages, config, [&](const std::string& name) {
                                  return fs::exists(checkpoint.directory() / name);
                                }};
  for (const Engine engine : options.engines) {
    add(check_engine(engine, options.tp, served), report.findings);
  }
  const bool whole = options.depth == CheckDepth::kWhole;
  WeightCheck weights =
      check_weights(checkpoint, model, headers, whole ? source : nullptr, options.depth, cluster);
  add(std::move(weights.findings), report.findings);
  report.sqnr_db = std::move(weights.sqnr_db);
  report.bytes_read = weights.bytes_read;
  return report;
}

void require_no_problems(const Findings& findings, const std::string& what) {
  const int64_t problems = problems_in(findings);
  if (problems == 0) return;
  const auto first = std::find_if(findings.begin(), findings.end(),
                                  [](const Finding& finding) { return !finding.warning; });
  throw VerificationError(concat(what, ": ", problems, problems == 1 ? " problem, " : " problems, ",
                                 "the first: ", text_of(*first)));
}

}  // namespace halftone
