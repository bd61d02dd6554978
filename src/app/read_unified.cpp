#include "app/read_unified.h"

#include "engine/exported_formats.h"
#include "engine/weight_source.h"
#include "export/trtllm_export.h"
#include "model/family.h"

namespace halftone {

const Family& family_of(const Options& options, const Checkpoint& checkpoint) {
  const std::string& name = options.get("family");
  return name.empty() ? family_of(checkpoint) : family_named(name);
}

ReadUnified::ReadUnified(const Options& options, const fs::path& folder)
    : checkpoint_(folder),
      model_(make_model(checkpoint_, options.get("family"))),
      stages_(exported_formats(checkpoint_, *model_)),
      form_{family_of(options, checkpoint_),
            *model_,
            stages_,
            checkpoint_.config(),
            model_dtype(checkpoint_),
            tensors_of(checkpoint_)} {
  make_exported_source(checkpoint_, *model_);  // checks every tensor's dtype and shape
}

}  // namespace halftone
