#!/usr/bin/env bash
# The tests over several hosts, which are made on this machine (as root; tests/lab/README.md):
#   tests/cluster/run.sh [--all] [ctest's arguments]
#   --all    also the long ones, which ctest leaves out by itself
set -euo pipefail
if [ "${1:-}" = --all ]; then
  export HALFTONE_CLUSTER_ALL=1
  shift
fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec ctest --test-dir build --output-on-failure -L cluster "$@"
