#pragma once

#include <memory>
#include <string>

#include "model/family.h"

namespace halftone {

// The published model's stages, with fewer layers and experts.
std::unique_ptr<Model> published_model(const Family& family, const PublishedModel& published);
// "dense", "experts", "stacked experts" or "encoder-decoder".
std::string kind_of(const Model& model);

// The published models by format as Markdown. Every cell is what plan_target() makes of the
// format's recipe for the model: nothing is written by hand.
std::string support_matrix();

}  // namespace halftone
