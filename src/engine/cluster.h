#pragma once

#include <ATen/core/Tensor.h>

#include "core/trace.h"
#include "dist/communicator.h"
#include "dist/world.h"
#include "kernels/thread_pool.h"

namespace halftone {

// What a run computes with. Everything is somebody else's (src/app) and outlives the engine.
struct Cluster {
  const World& world;
  Communicator& control;  // host memory, MPI: statistics and results
  Communicator& tensors;  // where the weights travel: NCCL with GPUs, else the same as control
  ThreadPool& pool;
  at::Device device;
  Trace* trace = nullptr;  // null: nobody asks for times
};

}  // namespace halftone
