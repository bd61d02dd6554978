#pragma once

#include <memory>
#include <vector>

#include "app/options.h"
#include "export/trtllm_form.h"
#include "io/checkpoint.h"

namespace halftone {

// --family, or what config.json says.
const Family& family_of(const Options& options, const Checkpoint& checkpoint);

// A unified checkpoint on disk, every tensor's dtype and shape checked, with everything that its
// place in another layout follows from.
class ReadUnified {
 public:
  ReadUnified(const Options& options, const fs::path& folder);
  ReadUnified(const ReadUnified&) = delete;
  ReadUnified& operator=(const ReadUnified&) = delete;

  const Checkpoint& checkpoint() const { return checkpoint_; }
  const Model& model() const { return *model_; }
  const UnifiedForm& form() const { return form_; }

 private:
  Checkpoint checkpoint_;
  std::unique_ptr<Model> model_;
  std::vector<StagePlan> stages_;
  UnifiedForm form_;
};

}  // namespace halftone
