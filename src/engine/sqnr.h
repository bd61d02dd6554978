#pragma once

#include <ATen/core/Tensor.h>

#include "core/json.h"
#include "kernels/thread_pool.h"

namespace halftone {

// 10 log10(sum w^2 / sum (w - q)^2) of matrices of one shape, q in fp32. Null where the noise or
// the signal is zero. Summed in blocks of rows, in order: equal for any number of threads.
Json sqnr_db(const at::Tensor& w_NK, const at::Tensor& q_NK, ThreadPool& pool);

}  // namespace halftone
