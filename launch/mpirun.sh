#!/usr/bin/env bash
# Runs halftone over the hosts of a cluster:
#   launch/mpirun.sh [options] -- quantize --model DIR ... --workspace DIR --out DIR
#   --hostfile FILE         one host a line, "host slots=N" as for mpirun; without it the hosts of the
#                           Slurm allocation that this runs in, else this host alone
#   --ranks-per-host N      auto [default]: one per GPU; without GPUs the hostfile's slots, else one
#                           per NUMA node
#   -x NAME[=VALUE]         hands an environment variable to all ranks; may be repeated
#   --log-dir DIR           also keeps the output of each rank in DIR
#   --min-free SIZE         how much must be free where the output goes (K, M, G, T); default: a quarter
#                           of the model's files, nothing for a run that goes on
#   --oversubscribe         more ranks than cores are fine; they are not bound then
#   --no-checks             starts without looking at the hosts first
#   --program FILE          default: build/halftone of this checkout
#   --mpi-option TEXT       one more argument for mpirun; may be repeated
#   --dry-run               checks, prints mpirun's command line and ends
# SIGTERM, SIGUSR1 and Ctrl-C stop the run after the current stage (exit code 75); a second Ctrl-C
# ends it at once. Exit codes are the program's; 5 also when mpirun lost a host or a rank was killed.
# launch/multinode.md tells more.
start=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$start" || exit
source "$root/launch/host_checks.sh"

hostfile=
ranks_per_host=auto
log_dir=
min_free=
oversubscribe=
checks=1
dry_run=
program=$root/build/halftone
exports=()
mpi_options=()

while (($# > 0)); do
  case $1 in
    --hostfile | --ranks-per-host | --log-dir | --min-free | --program | --mpi-option | -x)
      if (($# < 2)); then fail 2 "$1 needs a value; launch/mpirun.sh --help lists the options"; fi ;;&
    --hostfile) hostfile=$2; shift ;;
    --ranks-per-host) ranks_per_host=$2; shift ;;
    --log-dir) log_dir=$(realpath -m "$2"); shift ;;
    --min-free) min_free=$2; shift ;;
    --program) program=$(realpath -m "$2"); shift ;;
    --mpi-option) mpi_options+=("$2"); shift ;;
    -x) exports+=(-x "$2"); shift ;;
    --oversubscribe) oversubscribe=1 ;;
    --no-checks) checks= ;;
    --dry-run) dry_run=1 ;;
    -h | --help)
      sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
      exit 0 ;;
    --) shift; break ;;
    *) fail 2 "unknown argument '$1'; what is for the program goes behind --" ;;
  esac
  shift
done
if (($# == 0)); then fail 2 "nothing to run: launch/mpirun.sh [options] -- quantize ..."; fi
arguments=("$@")
if ! [[ $ranks_per_host =~ ^(auto|[1-9][0-9]*)$ ]]; then
  fail 2 "--ranks-per-host is '$ranks_per_host': expected a number or auto"
fi
if [ -n "$min_free" ] && ! numfmt --from=iec "$min_free" >/dev/null 2>&1; then
  fail 2 "--min-free is '$min_free': expected a size like 500M or 2T"
fi
if [ ! -x "$program" ]; then
  fail 2 "'$program' is not there: build it with launch/setup.sh, or name it with --program"
fi

# argument NAME: the value of --NAME among the program's arguments; nothing when it isn't there.
argument() {
  local i
  for ((i = 0; i < ${#arguments[@]}; i++)); do
    case ${arguments[i]} in
      "--$1") echo "${arguments[i + 1]:-}"; return ;;
      "--$1="*) echo "${arguments[i]#*=}"; return ;;
    esac
  done
}

# Sets hosts (in order, each once) and slots (host -> number in the hostfile).
hosts=()
declare -A slots=()
read_hosts() {
  local line name
  if [ -n "$hostfile" ]; then
    if [ ! -r "$hostfile" ]; then fail 2 "--hostfile: '$hostfile' cannot be read"; fi
    while IFS= read -r line || [ -n "$line" ]; do
      line=${line%%#*}
      read -r name line <<<"$line" || true
      if [ -z "$name" ]; then continue; fi
      if [ -z "${slots[$name]+there}" ]; then hosts+=("$name"); fi
      slots[$name]=
      if [[ " $line" =~ [[:space:]]slots=([0-9]+) ]]; then slots[$name]=${BASH_REMATCH[1]}; fi
    done <"$hostfile"
    if ((${#hosts[@]} == 0)); then fail 2 "--hostfile: '$hostfile' names no host"; fi
  elif [ -n "${SLURM_JOB_NODELIST:-}" ]; then
    mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
  else
    hosts=("$(uname -n)")
  fi
}

read_hosts
inspect_hosts
if [ -n "$checks" ]; then check_hosts; fi

# ranks_of HOST
ranks_of() {
  local gpus=${host_gpus[$1]}
  if [ "$(argument device)" = cpu ]; then gpus=0; fi
  if [ "$ranks_per_host" != auto ]; then
    echo "$ranks_per_host"
  elif ((gpus > 0)); then
    echo "$gpus"
  else
    echo "${slots[$1]:-${host_numa_nodes[$1]}}"
  fi
}

run_folder=$(mktemp -d)
trap 'rm -rf "$run_folder"' EXIT
ranks=0
cores_per_rank=
for host in "${hosts[@]}"; do
  count=$(ranks_of "$host")
  echo "$host slots=$count" >>"$run_folder/hosts"
  ranks=$((ranks + count))
  share=$((host_cores[$host] / count))
  if ((share < 1)); then
    say "$host has ${host_cores[$host]} cores for $count ranks: they share them and are not bound"
    oversubscribe=1
    share=1
  fi
  if [ -z "$cores_per_rank" ] || ((share < cores_per_rank)); then cores_per_rank=$share; fi
done

watchdog_seconds=$(argument watchdog-seconds)
if ! [[ $watchdog_seconds =~ ^[0-9]+$ ]]; then watchdog_seconds=60; fi
# A silent host ends the connections of mpirun's daemons too, after the program's own watchdog had
# its time, so that none of them stays behind.
alive=$((watchdog_seconds / 2 + 1))
line=(mpirun --hostfile "$run_folder/hosts" -n "$ranks" -wdir "$PWD"
  --mca plm_rsh_args "-o BatchMode=yes -o ServerAliveInterval=$alive -o ServerAliveCountMax=3"
  --mca oob_tcp_keepalive_time "$alive" --mca oob_tcp_keepalive_intvl "$alive"
  --mca oob_tcp_keepalive_probes 3
  -x "HALFTONE_LAUNCH=$run_folder")
if [ "$(id -u)" = 0 ]; then line+=(--allow-run-as-root); fi
# Rank r of a host takes the host's GPU r and the r-th share of its cores.
if [ -n "$oversubscribe" ]; then
  line+=(--oversubscribe --map-by slot --bind-to none)
else
  line+=(--map-by "slot:PE=$cores_per_rank" --bind-to core)
fi
if [ -n "$log_dir" ]; then line+=(--output-filename "$log_dir"); fi
line+=("${exports[@]}" "${mpi_options[@]}"
  "$root/launch/rank.sh" "$watchdog_seconds" "$program" "${arguments[@]}")
if [ -z "$(argument threads)" ]; then line+=(--threads "$cores_per_rank"); fi
if [ -n "$dry_run" ]; then
  printf '%q ' "${line[@]}"
  echo
  exit 0
fi

# Processes of this run on this host.
ranks_here() { grep -lsz "^HALFTONE_LAUNCH=$run_folder$" /proc/[0-9]*/environ 2>/dev/null; }

# mpirun waits for ever for a host that does not answer. A while after the last rank of this host has
# gone, it is ended.
end_a_stuck_mpirun() {
  local seen='' gone=0
  while sleep 1; do
    if [ -n "$(ranks_here)" ]; then
      seen=1 gone=0
    elif [ -n "$seen" ] && ((++gone > alive + 10)); then
      echo stuck >"$run_folder/stuck"
      kill -KILL "$mpirun" 2>/dev/null
      return
    fi
  done
}

# No rank may live on: a next run would meet it in the workspace.
sweep() {
  local host unreachable=() pids=()
  for host in "${hosts[@]}"; do
    # shellcheck disable=SC2016 # expanded on the host
    on_host "$host" '
      for signal in 0 KILL; do
        for i in $(seq 30); do
          pids=$(grep -lsz "^HALFTONE_LAUNCH=$1$" /proc/[0-9]*/environ | cut -d/ -f3)
          found=
          for pid in $pids; do
            # what was stopped or hangs goes at once when signal is KILL
            kill -$signal "$pid" 2>/dev/null && found=1
          done
          if [ -z "$found" ]; then exit 0; fi
          sleep 0.1
        done
      done' "$run_folder" >/dev/null 2>&1 &
    pids+=($!)
  done
  for host in "${!hosts[@]}"; do
    if ! wait "${pids[host]}"; then unreachable+=("${hosts[host]}"); fi
  done
  if ((${#unreachable[@]} > 0)); then
    say "not reached: ${unreachable[*]}; ranks there end by themselves within" \
      "$watchdog_seconds s of losing the others: wait for that before the next run"
  fi
}

say "$ranks ranks on ${#hosts[@]} hosts, $cores_per_rank cores each"
# Apart from the terminal: its Ctrl-C is for this script.
setsid "${line[@]}" <&0 &
mpirun=$!
trap 'kill -USR1 "$mpirun" 2>/dev/null || true' TERM USR1
# shellcheck disable=SC2317 # called by the trap
interrupt() {
  kill -USR1 "$mpirun" 2>/dev/null || true
  trap 'kill -TERM "$mpirun" 2>/dev/null || true' INT
}
trap interrupt INT
end_a_stuck_mpirun &
guard=$!
code=0
wait "$mpirun" 2>/dev/null || code=$?
while kill -0 "$mpirun" 2>/dev/null; do # a trap ended `wait`
  code=0
  wait "$mpirun" 2>/dev/null || code=$?
done
if ((code > 128)); then # its own, or a trap's that came at the very end
  last=0
  wait "$mpirun" 2>/dev/null || last=$?
  if ((last != 127)); then code=$last; fi
fi
kill "$guard" 2>/dev/null || true
wait "$guard" 2>/dev/null || true

case $code in 0 | 2 | 3 | 4 | 6 | 75) exit "$code" ;; esac
sweep
if [ -e "$run_folder/stuck" ]; then
  fail 5 "all ranks of $(uname -n) have ended and mpirun waited for another host: it was ended"
elif ((code != 5)); then
  fail 5 "mpirun ended with $code: a rank was killed or the daemon of a host was lost; the lines \
above name it"
fi
exit 5
