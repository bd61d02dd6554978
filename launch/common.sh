# Shared by the scripts of launch/ and .ci/: source it. Sets `root` and `jobs`, and changes into root.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
logs=$root/build/log
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1
if ! command -v nvcc >/dev/null && [ -x /usr/local/cuda/bin/nvcc ]; then
  export PATH=$PATH:/usr/local/cuda/bin
fi

say() { printf '== %s\n' "$*" >&2; }

# fail CODE TEXT
fail() {
  printf 'error: %s\n' "$2" >&2
  exit "$1"
}

# Compiling a file that includes LibTorch takes up to 1.5 GB: as many jobs as cores and memory allow.
count_jobs() {
  local kilobytes by_memory cores
  kilobytes=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
  cores=$(nproc)
  by_memory=$((kilobytes / 1500000))
  if ((by_memory < 1)); then by_memory=1; fi
  echo $((by_memory < cores ? by_memory : cores))
}
jobs=${HALFTONE_JOBS:-$(count_jobs)}

# logged NAME PATTERN COMMAND...: output goes to build/log/NAME.log; lines that match PATTERN are shown
# as progress, the end of the log when the command fails.
logged() {
  local log=$logs/$1.log pattern=$2
  shift 2
  mkdir -p "$logs"
  if ! "$@" </dev/null 2>&1 | tee "$log" |
      { grep --line-buffered -E "$pattern" || true; } | sed -u 's/^/   /' >&2; then
    tail -n 60 "$log" >&2
    fail 1 "'$*' failed; all of its output is in $log"
  fi
}

# Shows about every tenth of ninja's lines, and nothing when there was nothing to build.
show_progress() {
  local line tenth last=
  while IFS= read -r line; do
    if [[ ! $line =~ ^\[([0-9]+)/([0-9]+)\ .*(Building|Linking) ]]; then continue; fi
    tenth=$((10 * BASH_REMATCH[1] / BASH_REMATCH[2]))
    if [ "$tenth" = "$last" ]; then continue; fi
    if [ -z "$last" ]; then say "building, $jobs at a time"; fi
    last=$tenth
    printf '   %s\n' "$line" >&2
  done
}

# build TARGET...
build() {
  local log=$logs/build.log
  mkdir -p "$logs"
  if ! NINJA_STATUS='[%f/%t %es] ' ninja -C build -j "$jobs" "$@" </dev/null 2>&1 |
      tee "$log" | show_progress; then
    grep -E -A 30 '^FAILED|error' "$log" | head -n 80 >&2 || true
    fail 1 "the build failed; all of its output is in $log"
  fi
}

# over_mpi RANKS COMMAND...
over_mpi() {
  local options=(--oversubscribe --bind-to none)
  if [ "$(id -u)" = 0 ]; then options+=(--allow-run-as-root); fi
  local ranks=$1
  shift
  mpirun "${options[@]}" -n "$ranks" "$@" </dev/null
}
