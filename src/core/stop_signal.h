#pragma once

namespace halftone {

// SIGTERM, SIGUSR1 and SIGINT from now on ask the run to stop where it can go on later. However
// many SIGTERM and SIGUSR1 come, they do not end the process; a second SIGINT does. Only for
// commands that look at stop_requested().
void install_stop_signals();

// Back to what the system does with them: they end the process.
void restore_stop_signals();

// Whether one of the signals came to this process. Other ranks may have seen none.
bool stop_requested();

}  // namespace halftone
