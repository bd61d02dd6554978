#include "engine/side_stream.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace halftone {

SideStream::SideStream(at::Device device) : device_(device) {
  if (device.is_cpu()) return;
  stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

SideStream::Mark SideStream::mark() const {
  if (!stream_) return nullptr;
  auto event = std::make_shared<c10::Event>(device_.type());
  event->record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  return event;
}

void SideStream::run(const Mark& mark, const std::function<void()>& work) const {
  if (!stream_) {
    work();
    return;
  }
  const c10::StreamGuard guard(*stream_);
  mark->block(*stream_);
  work();
  stream_->synchronize();
}

}  // namespace halftone
