#pragma once

#include <string>

namespace halftone {

// Loads LibTorch's CUDA part, which the program does not link, so that it starts on machines
// without CUDA. Returns an empty text when GPUs can be used, else why not.
std::string load_cuda_library();

// Makes one GPU the current one for this process, dealt by the position among the host's ranks.
// Returns its index. Only after load_cuda_library() succeeded.
int use_gpu(int local_rank);

}  // namespace halftone
