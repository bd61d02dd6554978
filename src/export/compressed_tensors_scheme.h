#pragma once

#include <optional>

#include "core/json.h"
#include "formats/linear_format.h"

namespace halftone {

// How compressed-tensors describes one of our formats, and the shapes that follow from it.
struct CompressionScheme {
  // QuantizationArgs of the weights or of the input. bits 0: not quantized.
  struct Args {
    int bits = 0;
    const char* type = "";
    const char* strategy = "";
    int64_t group = 0;             // tensor_group and group; 0: that of the codec
    const char* dynamic = "";      // "true", "local"; "": static
    const char* scale_dtype = "";  // where the library's presets say one
  };

  const char* codec;  // its name; one that ends with a space: what its name begins with
  InputKind input;
  const char* format;  // of the compression
  Args weights;
  Args activations;

  bool packs_integers() const;  // weight_packed of int32 words
  bool packs_floats() const;    // weight_packed of E2M1 pairs
  bool has_global_scales() const;
};

// Null: the library has none for it.
const CompressionScheme* compression_scheme(const LinearFormat& format);

// A config group of such linears, without its targets.
Json config_group(const CompressionScheme& scheme, const LinearFormat& format);
// The format of a config group; nullopt: none of ours. Members of the wrong type are InputErrors
// naming `source`.
std::optional<LinearFormat> format_of_group(const Json& group, const std::string& source);

}  // namespace halftone
