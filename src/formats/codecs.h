#pragma once

#include <memory>
#include <optional>

#include "formats/codec.h"

namespace halftone {

// One function per codec file; codec.cpp tries them in order. Each returns null when the quantizers
// are not its own.
using MakeCodec = std::shared_ptr<const Codec> (*)(const QuantizerSequence& weight,
                                                   const InputFormat& input);
std::shared_ptr<const Codec> match_fp8(const QuantizerSequence& weight, const InputFormat& input);
std::shared_ptr<const Codec> match_fp8_rows(const QuantizerSequence& weight,
                                            const InputFormat& input);
std::shared_ptr<const Codec> match_fp8_tiles(const QuantizerSequence& weight,
                                             const InputFormat& input);
std::shared_ptr<const Codec> match_int8(const QuantizerSequence& weight, const InputFormat& input);
std::shared_ptr<const Codec> match_int4(const QuantizerSequence& weight, const InputFormat& input);
std::shared_ptr<const Codec> match_nvfp4(const QuantizerSequence& weight, const InputFormat& input);
std::shared_ptr<const Codec> match_mxfp4(const QuantizerSequence& weight, const InputFormat& input);
std::shared_ptr<const Codec> match_mxfp8(const QuantizerSequence& weight, const InputFormat& input);
std::shared_ptr<const Codec> match_nf4(const QuantizerSequence& weight, const InputFormat& input);

// By their parameters, for reading checkpoints.
std::shared_ptr<const Codec> make_fp8_codec();
std::shared_ptr<const Codec> make_fp8_rows_codec();
std::shared_ptr<const Codec> make_fp8_tiles_codec(int64_t tile);
std::shared_ptr<const Codec> make_int8_codec();
// second_scale: W4A8's additional per-tensor FP8 scale.
std::shared_ptr<const Codec> make_int4_codec(int64_t block, bool second_scale);
struct Nvfp4Options {
  int block = 16;
  // The second-level scale is amax / (6 * block_scale_max); 1/6th of that for W4A8, whose block
  // scales stay below 448 / 6.
  float amax_divisor = 2688.0f;
  // Block amaxes are frozen instead of derived at packing; the largest block scale is 448, or 256
  // for four-over-six (formats-and-hf-export.md, 2.10).
  bool frozen = false;
  float largest_scale = 448.0f;
};
std::shared_ptr<const Codec> make_nvfp4_codec(const Nvfp4Options& options);
// The largest block scale of an NVFP4 codec with frozen block amaxes; null for other codecs.
std::optional<float> frozen_nvfp4(const Codec& codec);
// Whether it is NVFP4 of blocks of 16 with the usual second-level scale.
bool is_plain_nvfp4(const Codec& codec);
std::shared_ptr<const Codec> make_mxfp4_codec();
std::shared_ptr<const Codec> make_mxfp8_codec();
// state_bytes: the size of the stored JSON text.
std::shared_ptr<const Codec> make_nf4_codec(int64_t state_bytes);
inline constexpr const char* kNf4State = "weight.quant_state.bitsandbytes__nf4";

// A tensor of row amaxes as stored scales: sanitised, divided by `bound`.
at::Tensor scales_of_amaxes(const at::Tensor& amax, float bound, DType dtype, Numerics numerics);
// F32 [out, ceil(in/block)].
at::Tensor block_amax_of(const at::Tensor& w_NK, int64_t block, ThreadPool* pool);

}  // namespace halftone
