#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/options.h"
#include "app/run_setup.h"
#include "engine/quantize.h"

namespace halftone {

// What `quantize` and `export` share.

// --model, --family, --format, --recipe, --kv-cache
void add_target_options(Options& options);
// --out, --target, --max-shard-size, --overwrite, --engine, --tp
void add_output_options(Options& options);

// --workspace, --resume, --save-overhead
void add_workspace_options(Options& options);
// --workspace; beside the output where it is not given.
fs::path workspace_of(const Options& options, const fs::path& out);

// What --format or --recipe ask for, with the rules of --kv-cache.
std::vector<Recipe> read_recipes(const Options& options);

fs::path without_trailing_slash(const std::string& path);
// The folder that will hold the outputs must be writable before the work begins; an output that
// exists is refused.
void check_output(const fs::path& out, const fs::path& model, bool overwrite);
void make_parent(const fs::path& out, bool speaks, Communicator& ranks);

// User's rules that match no quantizer of the model: warnings, or with --strict a UsageError.
void check_rules(const Options& options, const Model& model, const Recipe& recipe, bool speaks);

// The model of an original checkpoint, or one in low bits; one that is quantized already is an
// InputError.
std::unique_ptr<Model> open_model(const Options& options, const Checkpoint& checkpoint);
// The targets of a run; several go into folders of their own below `out`.
std::vector<Target> make_targets(const Options& options, const SourceLayout& source,
                                 const Model& model, const std::vector<Recipe>& recipes,
                                 const fs::path& out);
// --engine: a target that one of the engines cannot serve is a UsageError naming the rule; what
// nobody has proved to work is a warning.
void check_engines(const Options& options, const Model& model, const std::vector<Target>& targets,
                   bool speaks);
// Everything but the compute dtype and what is said of padding.
QuantizeOptions quantize_options_of(const Options& options, const SourceLayout& source,
                                    const Model& model, const std::vector<Target>& targets,
                                    const fs::path& out, const Cluster& cluster);
// What is held of the weights; refuses what cannot be. Collective.
void set_residency(const Options& options, const SourceLayout& source, const Model& model,
                   const std::vector<Target>& targets, bool calibrate_on_compressed,
                   const RunSetup& setup, QuantizeOptions& quantize_options);
// Gives up what a workspace keeps for a resumed run; a failure is a warning. Local.
void forget(const Workspace& workspace);
// The result of an earlier run of this command that had given its output its name when it was
// killed. Rank 0 looks: another host may not see the output yet. Collective.
std::optional<QuantizeResult> published_result(const Options& options, const fs::path& out,
                                               const RunJournal& journal, Communicator& ranks);
// The table, or with --json the object.
void print_result(const Options& options, const QuantizeResult& result);

}  // namespace halftone
