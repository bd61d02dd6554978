#pragma once

#include <optional>
#include <string>

#include "core/json.h"

namespace halftone {

// What a training run's configuration says of the model, by the names of Megatron-core's
// TransformerConfig whatever file it comes from. Numbers, texts, booleans and nulls alone.
// A move of Json checks itself, and could throw while it does.
struct MegatronFields {  // NOLINT(bugprone-exception-escape)
  Json values;
  std::string source;     // for messages
  std::string tokenizer;  // what it calls the tokenizer; may be empty
};

// The argparse.Namespace in common.pt of Megatron-LM. A pickle with other than known classes is an
// InputError, nothing of it is executed.
MegatronFields read_common_arguments(const fs::path& path);
// `section` of a YAML file: "config" of NeMo's context/model.yaml, "model" of run_config.yaml.
MegatronFields read_model_yaml(const fs::path& path, const char* section);

// The config.json of the Hugging Face model that computes the same. `rows`: of the embedding,
// padding included; `dtype`: torch's name; `tokenizer`: its folder, for the size of the vocabulary
// and its special tokens. A setting that Llama-type models cannot express, or one that is missing,
// is an InputError that tells of --source-config.
Json hf_config_of(const MegatronFields& fields, int64_t rows, const std::string& dtype,
                  const std::optional<fs::path>& tokenizer);

}  // namespace halftone
