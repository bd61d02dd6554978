#pragma once

#include <ATen/core/Tensor.h>

#include "core/trace.h"
#include "dist/communicator.h"
#include "dist/rendezvous.h"
#include "dist/world.h"
#include "kernels/thread_pool.h"

namespace halftone {

// What the thread that loads stages gathers them with while others compute. One loader at a time
// has it; another one gathers when it is asked for a stage.
struct Loading {
  Rendezvous& meeting;
  Communicator& ranks;  // where the weights travel
  bool taken = false;
};

// What a run computes with. Everything is somebody else's (src/app) and outlives the engine.
struct Cluster {
  const World& world;
  Communicator& control;  // host memory, MPI: statistics and results
  Communicator& tensors;  // where the weights travel: NCCL with GPUs, else the same as control
  ThreadPool& pool;
  at::Device device;
  Loading* loading = nullptr;  // null: nothing is gathered beside other work
  Trace* trace = nullptr;      // null: nobody asks for times
};

}  // namespace halftone
