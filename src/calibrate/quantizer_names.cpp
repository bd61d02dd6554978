#include "calibrate/quantizer_names.h"

namespace halftone {

std::vector<QuantizerName> quantizer_names(const Model& model) {
  std::vector<QuantizerName> names;
  const auto add = [&](const std::string& module, const char* owner) {
    for (const char* kind : {"weight", "input", "output"}) {
      names.push_back({module + "." + kind + "_quantizer", owner});
    }
  };
  for (const StageSpec& stage : model.stages()) {
    if (stage.kind == StageKind::kEmbedding) {
      for (const TensorNeed& tensor : stage.tensors) {
        add(tensor.name.substr(0, tensor.name.rfind('.')), "nn.Embedding");
      }
    }
    for (const LinearSite& linear : stage.linears) add(linear.name, "nn.Linear");
    for (const AttentionSite& attention : stage.attentions) {
      for (const char* kind : {"q", "k", "v", "p"}) {
        names.push_back({attention.name + "." + kind + "_bmm_quantizer", "attention"});
      }
    }
  }
  return names;
}

}  // namespace halftone
