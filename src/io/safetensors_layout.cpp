#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "io/safetensors.h"
#include "io/safetensors_header.h"
#include "kernels/check.h"

namespace halftone {
namespace {

// By falling alignment, so that every tensor is aligned to its element without padding.
constexpr std::array kOrder = {
    DType::kF64, DType::kI64,    DType::kF32,    DType::kI32, DType::kBF16, DType::kF16,
    DType::kI16, DType::kF8E4M3, DType::kF8E5M2, DType::kU8,  DType::kI8,   DType::kBool,
};

ptrdiff_t order_of(DType dtype) {
  return std::find(kOrder.begin(), kOrder.end(), dtype) - kOrder.begin();
}

std::string compact_shape(const std::vector<int64_t>& shape) {
  std::string text = shape_text(shape);
  std::erase(text, ' ');
  return text;
}

// The length word, the text, and spaces up to a multiple of 8.
std::string framed(std::string text) {
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (static_cast<int64_t>(text.size()) > kMaxHeaderBytes) {
    throw InputError(concat("a safetensors header of ", text.size(), " bytes; at most ",
                            kMaxHeaderBytes, " are allowed: use smaller shards"));
  }
  std::string header;
  for (int i = 0; i < kLengthBytes; ++i) {
    header += static_cast<char>(text.size() >> (8 * i) & 0xff);
  }
  return header + text;
}

}  // namespace

int64_t TensorSpec::bytes() const {
  int64_t result = size_of(dtype);
  for (const int64_t size : shape) {
    check(size >= 0 && !__builtin_mul_overflow(result, size, &result),
          "the size of a tensor to be written fits 63 bits");
  }
  return result;
}

SafetensorsLayout plan_safetensors(const std::vector<TensorSpec>& specs, bool metadata) {
  std::vector<const TensorSpec*> ordered;
  ordered.reserve(specs.size());
  for (const TensorSpec& spec : specs) ordered.push_back(&spec);
  std::sort(ordered.begin(), ordered.end(), [](const TensorSpec* a, const TensorSpec* b) {
    return std::pair<ptrdiff_t, const std::string&>(order_of(a->dtype), a->name) <
           std::pair<ptrdiff_t, const std::string&>(order_of(b->dtype), b->name);
  });

  SafetensorsLayout layout;
  std::string text = metadata ? R"({"__metadata__":{"format":"pt"})" : "{";
  int64_t end = 0;
  for (const TensorSpec* spec : ordered) {
    const int64_t bytes = spec->bytes();
    TensorInfo info{spec->name, spec->dtype, spec->shape, end, bytes};
    const bool is_new = layout.tensors.emplace(spec->name, std::move(info)).second;
    check(is_new && spec->name != "__metadata__", "a tensor to be written has a name of its own");
    text += concat(text == "{" ? "" : ",", Json(spec->name).dump(), R"(:{"dtype":")",
                   name_of(spec->dtype), R"(","shape":)", compact_shape(spec->shape),
                   R"(,"data_offsets":[)", end, ",", end + bytes, "]}");
    end += bytes;
  }
  layout.header = framed(text + "}");
  const auto header_bytes = static_cast<int64_t>(layout.header.size());
  for (auto& [name, info] : layout.tensors) info.offset += header_bytes;
  layout.file_bytes = header_bytes + end;
  return layout;
}

}  // namespace halftone
