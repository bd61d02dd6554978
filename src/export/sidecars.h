#pragma once

#include "core/json.h"
#include "export/hf_layout.h"
#include "export/quant_config.h"

namespace halftone {

// The files beside the weights (formats-and-hf-export.md, 4.5 and 5.3). All are fsynced.

// model.safetensors.index.json; nothing for a single file.
void write_index(const HfLayout& layout, const fs::path& directory);
// config.json as the source's with quantization_config set, hf_quant_config.json, and
// quant_cfg.json where there are several formats.
void write_configs(const Checkpoint& source, const QuantConfig& config, const fs::path& directory);
// generation_config.json (made consistent where its validator would refuse it) and, byte for byte,
// tokenizer, chat template, custom code and everything else that is not weights.
void copy_other_files(const Checkpoint& source, const fs::path& directory);

}  // namespace halftone
