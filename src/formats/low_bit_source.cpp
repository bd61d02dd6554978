#include "formats/low_bit_source.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

// The last one needs stacked weights.
constexpr std::array kMethods{"fp8", "compressed-tensors", "mxfp4"};

const Json& null_json() {
  static const Json null;
  return null;
}

std::string list_of(const std::vector<std::vector<int64_t>>& shapes) {
  std::string text;
  for (const auto& shape : shapes) text += (text.empty() ? "" : " or ") + shape_text(shape);
  return text;
}

// What the source's engine used beside the weight.
void add_companions(const SourceQuery& query, StoredTensor& stored) {
  if (!query.name.ends_with(".weight")) return;
  const std::string module = query.name.substr(0, query.name.size() - 6);
  for (const char* suffix : {"input_scale", "input_zero_point", "weight_zero_point"}) {
    const std::string name = module + suffix;
    const bool is_piece =
        std::any_of(stored.pieces.begin(), stored.pieces.end(),
                    [&](const TensorPiece& piece) { return piece.tensor == name; });
    if (query.checkpoint.has(name) && !is_piece) stored.companions.push_back(name);
  }
}

}  // namespace

const Json& source_quantization(const Checkpoint& checkpoint) {
  const auto found = checkpoint.config().find("quantization_config");
  if (found == checkpoint.config().end() || !found->is_object()) return null_json();
  const auto method = found->find("quant_method");
  if (method == found->end() || !method->is_string()) return null_json();
  const auto& name = method->get_ref<const std::string&>();
  const bool known = std::find(kMethods.begin(), kMethods.end(), name) != kMethods.end();
  return known ? *found : null_json();
}

std::vector<std::string> source_methods(bool stacked_experts) {
  return {kMethods.begin(), kMethods.end() - (stacked_experts ? 0 : 1)};
}

bool is_low_bit_source(const Checkpoint& checkpoint) {
  return !source_quantization(checkpoint).is_null();
}

std::optional<StoredTensor> find_low_bit(const SourceQuery& query) {
  if (query.quantization.is_null()) return std::nullopt;
  constexpr std::array kFinders{&find_fp8_source, &find_packed_int_source, &find_int8_source,
                                &find_mxfp4_source};
  for (const auto find : kFinders) {
    std::optional<StoredTensor> found = find(query);
    if (!found) continue;
    add_companions(query, *found);
    return found;
  }
  return std::nullopt;
}

const Json& source_weights(const Json& quantization) {
  static const Json none = Json::object();
  const auto groups = quantization.find("config_groups");
  if (groups == quantization.end() || !groups->is_object() || groups->empty()) return none;
  const Json& group = groups->begin().value();
  if (!group.is_object()) return none;
  const auto weights = group.find("weights");
  return weights == group.end() || !weights->is_object() ? none : *weights;
}

void add_piece(const SourceQuery& query, const TensorPiece& piece,
               const std::vector<std::vector<int64_t>>& shapes, const std::vector<DType>& dtypes,
               StoredTensor& stored) {
  const TensorInfo& info = query.checkpoint.info(piece.tensor);
  const std::string place = concat("tensor '", piece.tensor, "' in '",
                                   query.checkpoint.file_of(piece.tensor).string(), "'");
  if (std::find(dtypes.begin(), dtypes.end(), info.dtype) == dtypes.end()) {
    throw InputError(concat(place, " is ", name_of(info.dtype), ", which does not go with '",
                            query.name, "' ", shape_text(query.shape)));
  }
  if (std::find(shapes.begin(), shapes.end(), info.shape) == shapes.end()) {
    throw InputError(concat(place, " has shape ", shape_text(info.shape), ", but '", query.name,
                            "' is ", shape_text(query.shape), " in config.json and needs ",
                            list_of(shapes)));
  }
  stored.pieces.push_back(piece);
  stored.bytes += info.bytes / piece.parts;
}

void for_row_runs(int64_t rows, int64_t step, ThreadPool* pool,
                  const std::function<void(int64_t begin, int64_t end)>& body) {
  const auto run = [&](int64_t i) { body(i * step, std::min(rows, (i + 1) * step)); };
  const int64_t runs = (rows + step - 1) / step;
  if (pool != nullptr) {
    pool->for_each(runs, run);
  } else {
    for (int64_t i = 0; i < runs; ++i) run(i);
  }
}

}  // namespace halftone
