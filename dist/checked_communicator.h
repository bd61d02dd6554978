#pragma once

#include <memory>

#include "dist/communicator.h"

namespace halftone {

// `inner`, but before each collective all ranks compare over `checker`, which no other caller may
// use, what they are about to call. Where they differ each of them throws PeerError, which names
// the first two ranks that differ and both calls: on a cluster that ends all ranks with the message
// of each, where the process that check() aborts would take the others' messages along.
std::unique_ptr<Communicator> make_checked_communicator(std::unique_ptr<Communicator> inner,
                                                        std::unique_ptr<Communicator> checker);

}  // namespace halftone
