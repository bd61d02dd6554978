#!/usr/bin/env bash
# One rank of launch/mpirun.sh: launch/rank.sh WATCHDOG_SECONDS PROGRAM ARGUMENTS...
# mpirun kills all ranks one second after one of them has died. Here a death is kept back for as long
# as the watchdogs of the other ranks need to find it and to say what was lost, and where.
set -u
watchdog_seconds=$1
shift

# SIGUSR1 comes to the whole process group: the program has a handler of its own.
trap '' USR1
ending=
trap 'ending=1' TERM

"$@" <&0 &
program=$!
code=0
wait "$program" 2>/dev/null || code=$?
while kill -0 "$program" 2>/dev/null; do # a trap ends `wait`, not the program
  code=0
  wait "$program" 2>/dev/null || code=$?
done

hold() {
  local until=$((SECONDS + $1))
  while [ -z "$ending" ] && ((SECONDS < until)); do
    sleep 0.2 &
    wait $! || true
  done
}

if ((code == 5)); then
  hold 2 # the others are about to say the same
elif ((code > 128)) && [ -z "$ending" ]; then
  printf 'error: rank %s on host %s was killed by signal %s\n' \
    "${OMPI_COMM_WORLD_RANK:-?}" "$(uname -n)" "$((code - 128))" >&2
  if ((watchdog_seconds > 0)); then hold $((watchdog_seconds + 10)); fi
fi
exit "$code"
