#pragma once

#include "core/json.h"
#include "formats/codec.h"
#include "kernels/thread_pool.h"

namespace halftone {

// Elements of a piece of rows that is unpacked at a time; on a host it stays in a core's caches.
inline constexpr int64_t kSqnrPieceOnHost = int64_t{1} << 17;
inline constexpr int64_t kSqnrPieceOnGpu = int64_t{1} << 26;

// 10 log10(sum w^2 / sum (w - q)^2), q being what `packed` stands for. Null where the noise or the
// signal is zero. Summed in pieces of rows, in order: equal for any number of threads.
Json sqnr_db(const at::Tensor& w_NK, const Codec& codec, const PackedLinear& packed,
             ThreadPool& pool);

}  // namespace halftone
