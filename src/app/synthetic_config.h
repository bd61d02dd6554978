#pragma once

#include <memory>
#include <string>

#include "app/options.h"
#include "model/family.h"

namespace halftone {

// What `synthesize` makes a checkpoint of.
struct SyntheticModel {
  Json config;  // of config.json
  std::unique_ptr<Model> model;
};

// --family, --like, --layers and the sizes.
void add_shape_options(Options& options);

// The configuration of a published model, or the one that --like names, with the options' sizes.
// Made once, then asked for models of any number of layers.
class SyntheticConfig {
 public:
  explicit SyntheticConfig(const Options& options);

  // `layers` 0: as the configuration says. Sizes that contradict each other are InputErrors naming
  // the key of config.json.
  SyntheticModel make(int64_t layers) const;

 private:
  void set_sizes(const Options& options);
  Json& text();  // where the sizes of the text model are

  Json config_;
  std::string source_;  // for messages
  const Family* family_ = nullptr;
};

}  // namespace halftone
