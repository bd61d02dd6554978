#include "calibrate/quantizer_names.h"

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

constexpr const char* kLinear = "nn.Linear";
constexpr const char* kAttention = "attention";
constexpr const char* kEmbedding = "nn.Embedding";
constexpr std::string_view kWeight = ".weight";

void add(std::vector<QuantizerName>& names, const std::string& owner, const char* parent_class,
         std::initializer_list<const char*> quantizers) {
  for (const char* quantizer : quantizers) {
    names.push_back({concat(owner, ".", quantizer), parent_class});
  }
}

// The embedding stage's tensors, as modules.
void add_embeddings(std::vector<QuantizerName>& names, const StageSpec& stage) {
  for (const TensorNeed& tensor : stage.tensors) {
    if (!tensor.name.ends_with(kWeight)) continue;
    add(names, tensor.name.substr(0, tensor.name.size() - kWeight.size()), kEmbedding,
        {"weight_quantizer", "input_quantizer", "output_quantizer"});
  }
}

// A linear's output quantizer leaves no trace in the reference's checkpoints either, and patterns
// for a whole linear ("lm_head.*") enable it with the others.
bool is_harmless(const QuantizerName& quantizer) {
  if (quantizer.parent_class == kLinear) return true;
  return quantizer.parent_class == kAttention && (quantizer.name.ends_with(".k_bmm_quantizer") ||
                                                  quantizer.name.ends_with(".v_bmm_quantizer"));
}

}  // namespace

std::vector<QuantizerName> quantizer_names(const Model& model) {
  std::vector<QuantizerName> names;
  for (const StageSpec& stage : model.stages()) {
    if (stage.kind == StageKind::kEmbedding) add_embeddings(names, stage);
    for (const LinearSite& linear : stage.linears) {
      add(names, linear.name, kLinear, {"weight_quantizer", "input_quantizer", "output_quantizer"});
    }
    for (const AttentionSite& attention : stage.attentions) {
      add(names, attention.name, kAttention,
          {"q_bmm_quantizer", "k_bmm_quantizer", "v_bmm_quantizer", "p_bmm_quantizer"});
    }
  }
  return names;
}

void refuse_other_quantizers(const Model& model, const Recipe& recipe) {
  for (const QuantizerName& quantizer : quantizer_names(model)) {
    if (is_harmless(quantizer)) continue;
    if (!recipe.resolve(quantizer.name, quantizer.parent_class).enabled()) continue;
    throw UsageError(concat("the recipe '", recipe.name, "' enables '", quantizer.name,
                            "', which no checkpoint stores: linears, keys and values are "
                            "quantized; disable it"));
  }
}

}  // namespace halftone
