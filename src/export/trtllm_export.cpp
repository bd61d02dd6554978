#include "export/trtllm_export.h"

#include "core/error.h"
#include "core/log.h"
#include "export/trtllm_config.h"
#include "export/unified_sidecar.h"

namespace halftone {
namespace {

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw ResourceError(concat("cannot create '", folder.string(), "': ", error.message(),
                               " (choose another --out)"));
  }
}

void write_configs(const UnifiedForm& form, const TrtPart& part, const Parallelism& parallel,
                   const fs::path& folder) {
  const Json layers = trtllm_quant_cfg(form, part, parallel);
  if (!layers.is_null()) write_text_file(folder / "quant_cfg.json", layers.dump(4) + "\n");
  write_text_file(folder / "config.json", trtllm_config(form, part, parallel).dump(4) + "\n");
  sync_directory(folder);
}

// Where the rank files of the first part lie.
fs::path first_part(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / "encoder" / "rank0.safetensors", error) ? folder / "encoder" : folder;
}

}  // namespace

std::map<std::string, TensorSpec> tensors_of(const Checkpoint& unified) {
  std::map<std::string, TensorSpec> tensors;
  for (const std::string& name : unified.names()) {
    const TensorInfo& info = unified.info(name);
    tensors[name] = {name, info.dtype, info.shape};
  }
  return tensors;
}

void warn_of_dtype(const UnifiedForm& form) {
  if (form.dtype != DType::kF32) return;
  log_warn("TensorRT-LLM's checkpoints have no F32 weights: those that are not quantized are ",
           "written as F16");
}

void make_trtllm_folders(const UnifiedForm& form, const fs::path& folder) {
  for (const TrtPart& part : trtllm_parts(form.model)) make_folder(folder / part.folder);
  make_folder(folder / kUnifiedFolder);
}

void complete_trtllm(const UnifiedForm& form, const Parallelism& parallel,
                     const Checkpoint& unified, const std::vector<FileRecord>& files,
                     const fs::path& folder) {
  keep_unified(unified, files, folder / kUnifiedFolder);
  for (const TrtPart& part : trtllm_parts(form.model)) {
    write_configs(form, part, parallel, folder / part.folder);
  }
  sync_directory(folder);
}

bool is_trtllm(const fs::path& folder) {
  std::error_code error;
  return fs::exists(first_part(folder) / "rank0.safetensors", error);
}

Parallelism parallelism_of(const fs::path& folder) {
  constexpr int64_t kMost = 1024;
  const std::string source = (first_part(folder) / "config.json").string();
  const Json config = read_json_file(source);
  const Json mapping = config.is_object() ? config.value("mapping", Json()) : Json();
  if (!mapping.is_object()) throw InputError(source + ": expected an object 'mapping'");
  const Parallelism parallel{json_member<int64_t>(mapping, "tp_size", source),
                             json_member<int64_t>(mapping, "pp_size", source)};
  if (parallel.tp >= 1 && parallel.pp >= 1 && parallel.tp <= kMost && parallel.pp <= kMost) {
    return parallel;
  }
  throw InputError(concat(source, ": tp_size ", parallel.tp, " and pp_size ", parallel.pp,
                          " are no possible numbers of ranks"));
}

}  // namespace halftone
