#!/usr/bin/env bash
# Sets up, builds everything and runs all tests: launch/test.sh [ctest's arguments]
#   launch/test.sh -R kernels     only the tests whose names match
#   launch/test.sh -LE mpi        none of that label
launch=$(dirname "${BASH_SOURCE[0]}")
source "$launch/common.sh"

"$root/launch/setup.sh" --tests
# A test over MPI brings its own processes, and ctest counts them against -j.
exec ctest --test-dir build --output-on-failure -j "$(nproc)" "$@" </dev/null
