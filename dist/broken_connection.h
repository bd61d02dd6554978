#pragma once

namespace halftone {

// When the connection to a peer breaks, Open MPI 4.1 ends the process with an exit code of its own,
// before anybody can say who is missing. This program's own handler takes the place of Open MPI's.
// On guard it only remembers: calls that need the peer fail or wait until the watchdog ends the
// process. Off guard it ends the process with exit code 5. Other MPIs do not call it.
void guard_connections(bool on);
bool connection_broken();

}  // namespace halftone
