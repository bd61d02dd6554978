#include <cstdio>

#include "app/commands.h"
#include "app/run_setup.h"
#include "core/error.h"
#include "core/log.h"
#include "io/checkpoint.h"
#include "io/statistics_store.h"

namespace halftone {
namespace {

Options options() {
  Options options(
      "halftone inspect PATH [--json]",
      "Shows what is in a checkpoint folder, a safetensors file or a calibration store.");
  options.group("What");
  options.text("path", "PATH", "", "a folder, a .safetensors file or a .h5 store");
  options.positional("path");
  add_source_option(options);
  options.flag("json", "print one JSON object");
  return options;
}

Json tensor_json(const TensorInfo& info, const fs::path& file) {
  return {{"name", info.name},
          {"dtype", name_of(info.dtype)},
          {"shape", info.shape},
          {"bytes", info.bytes},
          {"file", file.filename().string()}};
}

Json inspect_checkpoint(const Options& options) {
  const Checkpoint checkpoint = open_source(options, "path");
  Json tensors = Json::array();
  for (const std::string& name : checkpoint.names()) {
    tensors.push_back(tensor_json(checkpoint.info(name), checkpoint.file_of(name)));
  }
  Json json{{"kind", "checkpoint"}, {"bytes", checkpoint.total_bytes()}, {"tensors", tensors}};
  for (const char* key : {"architectures", "quantization_config"}) {
    if (checkpoint.config().contains(key)) json[key] = checkpoint.config().at(key);
  }
  return json;
}

Json inspect_file(const fs::path& path) {
  const SafetensorsFile file(path);
  Json tensors = Json::array();
  int64_t bytes = 0;
  for (const auto& [name, info] : file.tensors()) {
    tensors.push_back(tensor_json(info, path));
    bytes += info.bytes;
  }
  return {{"kind", "safetensors"},
          {"bytes", bytes},
          {"metadata", file.metadata()},
          {"tensors", tensors}};
}

Json inspect_store(const fs::path& path) {
  const StatisticsStore store = StatisticsStore::open(path);
  Json linears = Json::object();
  for (const std::string& linear : store.linears()) {
    for (const std::string& dataset : store.datasets(linear)) {
      const StatisticsStore::Values values = store.values(linear, dataset);
      linears[linear][dataset] =
          values.shape.empty() ? Json(values.values.front()) : Json{{"shape", values.shape}};
    }
  }
  return {{"kind", "store"},
          {"stages_done", store.stages_done()},
          {"stages", store.stages()},
          {"meta", store.texts()},
          {"linears", linears}};
}

void print_plain(const Json& json) {
  const std::string kind = json["kind"];
  std::printf("%s\n", kind.c_str());
  if (kind == "store") {
    std::printf("stages %lld of %lld\n", json["stages_done"].get<long long>(),
                json["stages"].get<long long>());
    for (const auto& [name, value] : json["linears"].items()) {
      std::printf("%s %s\n", name.c_str(), value.dump().c_str());
    }
    return;
  }
  for (const char* key : {"architectures", "quantization_config"}) {
    if (json.contains(key)) std::printf("%s %s\n", key, json[key].dump().c_str());
  }
  for (const Json& tensor : json["tensors"]) {
    std::printf("%-60s %-8s %-16s %14lld  %s\n", tensor["name"].get<std::string>().c_str(),
                tensor["dtype"].get<std::string>().c_str(), tensor["shape"].dump().c_str(),
                tensor["bytes"].get<long long>(), tensor["file"].get<std::string>().c_str());
  }
  std::printf("%zu tensors, %lld bytes\n", json["tensors"].size(), json["bytes"].get<long long>());
}

void run(const Options& options, const World* /*world*/) {
  const fs::path path = options.required("path");
  if (!fs::exists(path)) throw InputError(concat("'", path.string(), "' does not exist"));
  const bool store = path.extension() == ".h5" || path.extension() == ".hdf5";
  const Json json = fs::is_directory(path) ? inspect_checkpoint(options)
                    : store                ? inspect_store(path)
                                           : inspect_file(path);
  if (options.get_flag("json")) {
    print_json(json);
  } else {
    print_plain(json);
  }
}

}  // namespace

Command inspect_command() {
  return {"inspect", "what is in a checkpoint, a store or a safetensors file", false, &options,
          &run};
}

}  // namespace halftone
