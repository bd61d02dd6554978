#include "search/kept_inputs.h"

#include "core/error.h"
#include "core/log.h"
#include "dist/agreement.h"
#include "kernels/check.h"

namespace halftone {

void KeptInputs::create(const Cluster& cluster) const {
  // Every rank, since a host may believe for a while that what another one made is not there.
  for (const bool first : {true, false}) {
    if ((cluster.control.rank() == 0) == first) {
      std::error_code error;
      fs::create_directories(folder_, error);
      if (error) {
        throw ResourceError(concat("cannot create '", folder_.string(), "': ", error.message(),
                                   " (choose another --workspace)"));
      }
    }
    cluster.control.barrier();
  }
}

Json KeptInputs::write(size_t stage, const BatchPass& pass, const Cluster& cluster) const {
  std::vector<int64_t> mine;
  std::vector<const States*> states;
  for (size_t i = 0; i < pass.mine().size(); ++i) {
    if (pass.mine()[i] >= batches_) continue;
    mine.push_back(pass.mine()[i]);
    states.push_back(&pass.states(i));
  }
  Json list = Json::array();
  if (!mine.empty()) {
    const std::string name = concat(stage, "-", cluster.control.rank(), ".safetensors");
    for (const StoredBatch& stored :
         save_states(folder_ / name, name, mine, states, cluster.pool)) {
      list.push_back(to_json(stored));
    }
    sync_directory(folder_);
  }
  Json all = Json::array();
  for (const std::string& text : gather_texts(cluster.control, list.dump())) {
    for (const Json& entry : Json::parse(text)) all.push_back(entry);
  }
  return all;
}

void KeptInputs::place(size_t stage, const Json& list) {
  std::map<int64_t, StoredBatch>& batches = stored_[stage];
  batches.clear();
  for (const Json& entry : list) {
    const StoredBatch stored = stored_batch_of(entry, folder_.string());
    batches[stored.batch] = stored;
  }
}

Json KeptInputs::places() const {
  Json all = Json::object();
  for (const auto& [stage, batches] : stored_) {
    Json list = Json::array();
    for (const auto& [batch, stored] : batches) list.push_back(to_json(stored));
    all[std::to_string(stage)] = list;
  }
  return all;
}

void KeptInputs::place_all(const Json& of) {
  for (const auto& [stage, list] : of.items()) place(std::stoul(stage), list);
}

States KeptInputs::read(size_t stage, int64_t batch, at::Device device) const {
  const auto batches = stored_.find(stage);
  check(batches != stored_.end(), "inputs are those of a stage that was computed");
  const auto found = batches->second.find(batch);
  if (found == batches->second.end()) {
    throw InputError(concat("'", folder_.string(), "' lacks batch ", batch, " of stage ", stage,
                            ": pass --resume never to begin anew"));
  }
  return load_states(folder_ / found->second.file, found->second, device);
}

void KeptInputs::remove() const {
  std::error_code error;
  fs::remove_all(folder_, error);
  if (error) log_warn("cannot remove '", folder_.string(), "': ", error.message());
}

}  // namespace halftone
