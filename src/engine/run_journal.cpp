#include "engine/run_journal.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "core/progress.h"
#include "core/sha256.h"
#include "core/stop_signal.h"
#include "dist/agreement.h"
#include "kernels/check.h"

namespace halftone {
namespace {

constexpr int64_t kSchema = 1;
const std::string kStages = "stages";
const std::string kStates = "states";
const std::string kRecords = "records";

std::string numbered(const std::string& folder, size_t stage, const std::string& rest) {
  const std::string number = std::to_string(stage);
  return folder + "/" + std::string(4 - std::min<size_t>(4, number.size()), '0') + number + rest;
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw ResourceError(concat("cannot create '", folder.string(), "': ", error.message(),
                               " (choose another --workspace)"));
  }
}

int64_t state_bytes(const BatchPass& pass) {
  int64_t bytes = 0;
  for (size_t i = 0; i < pass.mine().size(); ++i) {
    const States& states = pass.states(i);
    bytes += static_cast<int64_t>(states.x.nbytes());
    if (states.encoder.defined()) bytes += static_cast<int64_t>(states.encoder.nbytes());
  }
  return bytes;
}

void copy_values(const StatisticsStore& from, StatisticsStore& into) {
  for (const std::string& linear : from.linears()) {
    for (const std::string& dataset : from.datasets(linear)) {
      const StatisticsStore::Values values = from.values(linear, dataset);
      into.set_values(linear, dataset, values.values, values.shape);
    }
  }
}

}  // namespace

RunJournal::RunJournal(JournalOptions options, const Model& model, const Cluster& cluster)
    : options_(std::move(options)), workspace_(options_.workspace), cluster_(cluster) {
  stages_ = options_.steps;
  for (const StageSpec& stage : model.stages()) {
    if (options_.steps.empty()) stages_.push_back(stage.name);
  }
  finished_.resize(stages_.size());
  std::string text;
  if (leads()) {
    workspace_.create();
    const std::optional<Json> manifest = workspace_.read_manifest();
    if (manifest) {
      refuse_other_run(*manifest);
      if (options_.resume && manifest->value("identity", Json()) == options_.identity) {
        read_manifest(*manifest);
        text = this->manifest().dump();
      }
    }
  }
  // Rank 0's view: another host may still see an older file.
  text = broadcast_text(cluster_.control, std::move(text), 0);
  if (leads()) return;
  // A host of a network file system may believe for a while that what it once looked for in vain is
  // not there; making it again ends that.
  workspace_.create();
  if (!text.empty()) read_manifest(parse_json(text, "manifest.json"));
}

void RunJournal::refuse_other_run(const Json& manifest) const {
  const Json theirs = manifest.value("identity", Json::object());
  if (options_.overwrite) return;
  for (const auto& [key, mine] : options_.identity.items()) {
    const Json other = theirs.value(key, Json());
    if (other == mine) continue;
    const auto shown = [](const Json& value) { return value.dump().substr(0, 100); };
    throw UsageError(concat("the workspace '", workspace_.folder().string(),
                            "' is that of another run: its ", key, " is ", shown(other),
                            ", expected ", shown(mine), "; choose another --workspace, or pass ",
                            "--overwrite to give that run up"));
  }
}

void RunJournal::read_manifest(const Json& manifest) {
  const std::string source = workspace_.folder().string() + "/manifest.json";
  const auto list = [&](const char* key) {
    const auto found = manifest.find(key);
    return found != manifest.end() && found->is_array() ? *found : Json::array();
  };
  for (const Json& entry : list("finished")) {
    const auto stage = static_cast<size_t>(json_member<int64_t>(entry, "stage", source));
    if (stage >= finished_.size()) {
      throw InputError(concat(source, ": stage ", stage, " of ", finished_.size()));
    }
    const StageFile file{json_member<std::string>(entry, "file", source),
                         json_member<int64_t>(entry, "bytes", source),
                         json_member<std::string>(entry, "sha256", source)};
    if (!leads() || is_intact(stage, file)) finished_[stage] = file;
  }
  saved_stage_ = static_cast<size_t>(json_member_or<int64_t>(manifest, "saved_stage", 0, source));
  if (saved_stage_ > finished_.size()) {
    throw InputError(concat(source, ": states of stage ", saved_stage_, " of ", finished_.size()));
  }
  for (const Json& entry : list("saved")) saved_.push_back(stored_batch_of(entry, source));
  const auto result = manifest.find("completed");
  if (result != manifest.end() && result->is_object()) completed_ = *result;
}

bool RunJournal::is_intact(size_t stage, const StageFile& file) const {
  const fs::path path = workspace_.path(file.name);
  std::error_code error;
  const auto bytes = static_cast<int64_t>(fs::file_size(path, error));
  std::string problem;
  if (error) {
    problem = error.message();
  } else if (bytes != file.bytes) {
    problem = concat("it has ", bytes, " bytes, expected ", file.bytes);
  } else if (sha256_of_file(path) != file.sha256) {
    problem = "it does not match its checksum";
  }
  if (problem.empty()) return true;
  log_warn("the results of ", stages_[stage], " in '", path.string(), "' are damaged (", problem,
           "): this stage is done once more");
  return false;
}

bool RunJournal::has_progress() const {
  return std::any_of(finished_.begin(), finished_.end(),
                     [](const auto& file) { return file.has_value(); });
}

void RunJournal::start_over() {
  std::fill(finished_.begin(), finished_.end(), std::nullopt);
  saved_.clear();
  saved_stage_ = 0;
  completed_.reset();
}

std::optional<std::vector<States>> RunJournal::load_saved(
    const std::vector<int64_t>& batches) const {
  std::map<int64_t, const StoredBatch*> by_batch;
  for (const StoredBatch& stored : saved_) by_batch[stored.batch] = &stored;
  std::vector<States> states(batches.size());
  std::string problem;
  try {
    cluster_.pool.for_each(static_cast<int64_t>(batches.size()), [&](int64_t i) {
      const int64_t batch = batches[static_cast<size_t>(i)];
      const auto found = by_batch.find(batch);
      if (found == by_batch.end()) throw InputError(concat("there is no batch ", batch));
      const StoredBatch& stored = *found->second;
      states[static_cast<size_t>(i)] =
          load_states(workspace_.path(stored.file), stored, cluster_.device);
    });
  } catch (const InputError& error) {
    problem = error.what();
  }
  for (const std::string& text : gather_texts(cluster_.control, problem)) {
    if (text.empty()) continue;
    if (leads()) {
      log_warn("the inputs of ", stages_[saved_stage_], " were saved, but are damaged (", text,
               "): the stages before it are computed once more");
    }
    return std::nullopt;
  }
  return states;
}

ResumePlan RunJournal::plan(size_t computed, bool can_replay, const std::vector<int64_t>& batches) {
  if (leads()) {
    // What was saved stays valid until the next save takes its place.
    if (!has_progress()) workspace_.remove_manifest();
    make_folder(workspace_.folder() / kStages);
    make_folder(workspace_.folder() / kStates);
    remove_rubbish();
  }
  cluster_.control.barrier();
  if (!leads()) make_folder(workspace_.folder() / kStates);  // as in the constructor
  std::vector<bool> finished;
  for (const auto& file : finished_) finished.push_back(file.has_value());
  ResumePlan plan = plan_resume(finished, saved_stage_, computed, can_replay);
  if (plan.restored_at != SIZE_MAX) {
    std::optional<std::vector<States>> states = load_saved(batches);
    if (states) {
      plan.states = std::move(*states);
    } else {
      saved_stage_ = 0;
      saved_.clear();
      plan = plan_resume(finished, 0, computed, can_replay);
    }
  }
  return plan;
}

Json RunJournal::records_of(size_t stage) const {
  if (!leads()) return {};
  check(finished_[stage].has_value(), "records are those of a finished stage");
  const fs::path path = workspace_.path(finished_[stage]->name);
  return parse_json(StatisticsStore::open(path).text(kRecords), path.string());
}

StatisticsStore* RunJournal::open_stage(size_t stage) {
  if (!leads()) return nullptr;
  finished_[stage].reset();
  open_.emplace(StatisticsStore::create(workspace_.path(numbered(kStages, stage, ".h5"))));
  return &*open_;
}

void RunJournal::finish_stage(size_t stage, const Json& records, const BatchPass& pass,
                              size_t computed, const std::function<void()>& make_durable) {
  if (leads()) {
    check(open_.has_value(), "a stage is opened before it is finished");
    open_->set_text(kRecords, records.dump());
    open_->flush();
    open_.reset();
    const std::string name = numbered(kStages, stage, ".h5");
    const fs::path path = workspace_.path(name);
    finished_[stage] = {name, File::open_for_reading(path).size(), sha256_of_file(path)};
  } else {
    finished_[stage].emplace();
  }
  const bool states = stage + 1 < computed;
  std::array<int64_t, 2> wanted{stop_requested() ? 1 : 0, is_due(pass, states) ? 1 : 0};
  cluster_.control.all_reduce(wanted.data(), 2, DType::kI64, ReduceOp::kMax);
  const auto [stop, due] = wanted;
  if (stop == 0 && due == 0) return;
  const auto begin = Clock::now();
  make_durable();
  save(stage, pass, states);
  last_ = seconds_since(begin);
  spent_ += last_;
  if (stop != 0) {
    throw StoppedError(concat("stopped by a signal, with ", stages_[stage],
                              " finished and saved: the same command goes on from there"));
  }
}

bool RunJournal::is_due(const BatchPass& pass, bool states) const {
  if (!leads()) return false;
  // Until the first save has shown what one costs.
  constexpr double kBytesPerSecond = 2e8;
  constexpr double kFiles = 0.02;
  const double guess =
      kFiles + (states ? static_cast<double>(state_bytes(pass)) / kBytesPerSecond : 0.0);
  const double next = last_ < 0.0 ? guess : last_;
  return options_.overhead >= 1.0 || options_.overhead * seconds_since(start_) >= spent_ + next;
}

void RunJournal::save(size_t stage, const BatchPass& pass, bool states) {
  std::vector<StoredBatch> mine;
  if (states) {
    std::vector<const States*> of_batches;
    for (size_t i = 0; i < pass.mine().size(); ++i) of_batches.push_back(&pass.states(i));
    const std::string name =
        numbered(kStates, stage + 1, concat("-", cluster_.control.rank(), ".safetensors"));
    mine = save_states(workspace_.path(name), name, pass.mine(), of_batches, cluster_.pool);
    sync_directory(workspace_.folder() / kStates);
    bytes_saved_ += state_bytes(pass);
  }
  Json list = Json::array();
  for (const StoredBatch& stored : mine) list.push_back(to_json(stored));
  const std::vector<std::string> lists = gather_texts(cluster_.control, list.dump());
  saved_stage_ = states ? stage + 1 : 0;
  saved_.clear();
  if (!leads()) return;
  for (const std::string& text : lists) {
    for (const Json& entry : Json::parse(text)) saved_.push_back(stored_batch_of(entry, kStates));
  }
  sync_directory(workspace_.folder() / kStages);
  workspace_.write_manifest(manifest());
  remove_rubbish();
}

Json RunJournal::manifest() const {
  Json finished = Json::array();
  for (size_t s = 0; s < finished_.size(); ++s) {
    if (!finished_[s]) continue;
    finished.push_back({{"stage", s},
                        {"name", stages_[s]},
                        {"file", finished_[s]->name},
                        {"bytes", finished_[s]->bytes},
                        {"sha256", finished_[s]->sha256}});
  }
  Json saved = Json::array();
  for (const StoredBatch& stored : saved_) saved.push_back(to_json(stored));
  Json manifest{{"schema", kSchema},
                {"identity", options_.identity},
                {"finished", finished},
                {"saved_stage", saved_stage_},
                {"saved", saved}};
  if (completed_) manifest["completed"] = *completed_;
  return manifest;
}

// Files of the run that the manifest does not name: of a save that was overtaken or interrupted.
void RunJournal::remove_rubbish() const {
  std::set<std::string> named;
  for (const auto& file : finished_) {
    if (file) named.insert(file->name);
  }
  for (const StoredBatch& stored : saved_) named.insert(stored.file);
  for (const std::string& folder : {kStages, kStates}) {
    std::error_code ignored;  // Rubbish that stays does no harm.
    for (const auto& entry : fs::directory_iterator(workspace_.folder() / folder, ignored)) {
      if (named.count(folder + "/" + entry.path().filename().string()) == 0) {
        fs::remove(entry.path(), ignored);
      }
    }
  }
}

void RunJournal::complete(const Json& result) {
  if (leads()) {
    const fs::path final_path = workspace_.folder() / "calibration.h5";
    const fs::path partial = workspace_.folder() / "calibration.h5.partial";
    {
      StatisticsStore store = StatisticsStore::create(partial);
      for (const auto& [key, text] : options_.texts) store.set_text(key, text);
      for (const auto& file : finished_) {
        check(file.has_value(), "a complete run has finished all stages");
        copy_values(StatisticsStore::open(workspace_.path(file->name)), store);
      }
      const auto stages = static_cast<int64_t>(stages_.size());
      store.set_progress(stages, stages);
      store.flush();
    }
    rename_path(partial, final_path);
    sync_directory(workspace_.folder());
    saved_.clear();
    saved_stage_ = 0;
    completed_ = result;
    workspace_.write_manifest(manifest());
  }
  cluster_.control.barrier();
}

void RunJournal::clear() {
  if (leads()) {
    std::fill(finished_.begin(), finished_.end(), std::nullopt);
    workspace_.write_manifest(manifest());
    for (const std::string& folder : {kStages, kStates}) {
      std::error_code error;
      fs::remove_all(workspace_.folder() / folder, error);
      if (error) {
        log_warn("cannot remove '", (workspace_.folder() / folder).string(),
                 "': ", error.message());
      }
    }
    sync_directory(workspace_.folder());
  }
  cluster_.control.barrier();
}

}  // namespace halftone
