#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <functional>
#include <memory>
#include <optional>

namespace halftone {

// A queue of the GPU's own for copies beside the computation. For a host everything runs in place.
class SideStream {
 public:
  explicit SideStream(at::Device device);

  // What the calling thread has given to the GPU so far.
  using Mark = std::shared_ptr<c10::Event>;
  Mark mark() const;
  // Runs LibTorch's operations of `work`, behind what `mark` stands for; returns when they are
  // done. Any thread.
  void run(const Mark& mark, const std::function<void()>& work) const;

 private:
  at::Device device_;
  std::optional<c10::Stream> stream_;
};

}  // namespace halftone
