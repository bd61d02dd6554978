#pragma once

namespace halftone {

// Whether MPI lost the connection to a peer. Open MPI 4.1 would end the process then, with an exit
// code of its own and before anybody could say who is missing. This program's own handler takes
// the place of Open MPI's: it only remembers. Calls that need the peer then fail or wait until the
// watchdog ends the process. With other MPIs it is always false.
bool connection_broken();

}  // namespace halftone
