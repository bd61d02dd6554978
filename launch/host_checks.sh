# shellcheck shell=bash
# What the hosts of a run have, and whether it can start there. Sourced by launch/mpirun.sh, after
# common.sh; needs `hosts`, `program`, `min_free` and `argument`.
# shellcheck disable=SC2034,SC2154 # what it sets is for its includer, which sets what it reads

declare -A host_cores=() host_gpus=() host_numa_nodes=()
clock_tolerance=5 # seconds

# on_host HOST SCRIPT ARGUMENT...: the script is bash's; its standard input is empty.
on_host() {
  local host=$1 script=$2
  shift 2
  if [ "$host" = "$(uname -n)" ] || [ "$host" = localhost ] || [ "$host" = 127.0.0.1 ]; then
    bash -c "$script" on_host "$@" </dev/null
  else
    ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=3 \
      "$host" "bash -c $(printf '%q ' "$script" on_host "$@")" </dev/null
  fi
}

# Prints "NAME VALUE" lines. Arguments: the program, the model, the check's token, shared folders.
# shellcheck disable=SC2016 # expanded on the host
probe='
  program=$1 model=$2 token=$3
  shift 3
  echo "clock $(date +%s)"
  cores=$(lscpu -p=SOCKET,CORE 2>/dev/null | grep -v "^#" | sort -u | wc -l)
  allowed=$(nproc)
  echo "cores $((cores > 0 && cores < allowed ? cores : allowed))"
  nodes=$(ls -d /sys/devices/system/node/node[0-9]* 2>/dev/null | wc -l)
  echo "numa $((nodes > 0 ? nodes : 1))"
  if [ -n "${CUDA_VISIBLE_DEVICES+there}" ]; then
    echo "gpus $(tr , "\n" <<<"$CUDA_VISIBLE_DEVICES" | grep -c .)"
  else
    echo "gpus $(nvidia-smi -L 2>/dev/null | grep -c ^GPU)"
  fi
  echo "program $(sha256sum "$program" 2>/dev/null | cut -d" " -f1)"
  libraries=$(ldd "$program" 2>/dev/null)
  echo "missing $(grep "not found" <<<"$libraries" | cut -d" " -f1 | xargs)"
  echo "libraries $(awk "\$3 ~ /^\// {print \$3}" <<<"$libraries" | sort -u |
    while read -r file; do echo "${file##*/} $(stat -Lc %s "$file")"; done | sort |
    sha256sum | cut -d" " -f1)"
  echo "model $(cat "$model"/config.json 2>/dev/null | sha256sum | cut -d" " -f1)"
  echo "memory $(df -k --output=avail /dev/shm 2>/dev/null | tail -n 1)"
  for folder; do
    if [ "$(cat "$folder/$token" 2>/dev/null)" != "$token" ]; then
      echo "unseen $folder"
    elif ! echo "$(uname -n)" >"$folder/$token.$(uname -n)" 2>/dev/null; then
      echo "unwritable $folder"
    fi
  done
  echo "name $(uname -n)"'

# The folder itself, or the nearest one above that exists.
nearest() {
  local folder
  folder=$(realpath -m "$1")
  while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
  echo "$folder"
}

# Sets shared_folders: where the ranks meet.
find_shared_folders() {
  local out workspace
  out=$(argument out)
  workspace=$(argument workspace)
  shared_folders=()
  if [ -n "$out" ]; then shared_folders+=("$(nearest "$(dirname "$(realpath -m "$out")")")"); fi
  if [ -n "$workspace" ]; then shared_folders+=("$(nearest "$workspace")"); fi
  if ((${#shared_folders[@]} > 0)); then
    mapfile -t shared_folders < <(printf '%s\n' "${shared_folders[@]}" | sort -u)
  fi
}

# Asks all hosts at once. Sets found ("HOST NAME" -> value), replied (HOST -> its ssh's exit code) and
# problems.
declare -A found=() replied=()
problems=()
inspect_hosts() {
  local host folder pids=() key value answers token=.halftone-launch-$$-$RANDOM
  find_shared_folders
  answers=$(mktemp -d)
  for folder in "${shared_folders[@]}"; do
    if ! echo "$token" 2>/dev/null >"$folder/$token"; then
      fail 4 "$(uname -n): cannot write to '$folder', where --out or --workspace lies"
    fi
  done
  asked_at=$(date +%s)
  for host in "${hosts[@]}"; do
    on_host "$host" "$probe" "$program" "$(argument model)" "$token" "${shared_folders[@]}" \
      >"$answers/$host" 2>"$answers/$host.errors" &
    pids+=($!)
  done
  local i
  for i in "${!hosts[@]}"; do
    host=${hosts[i]}
    replied[$host]=0
    wait "${pids[i]}" || replied[$host]=$?
    while read -r key value; do found["$host $key"]=$value; done <"$answers/$host"
    if [ -z "${found["$host name"]:-}" ]; then
      problems+=("5 host $host: does not answer over ssh: $(tail -n 1 "$answers/$host.errors")")
      replied[$host]=255
    fi
    host_cores[$host]=${found["$host cores"]:-1}
    host_gpus[$host]=${found["$host gpus"]:-0}
    host_numa_nodes[$host]=${found["$host numa"]:-1}
  done
  answered_at=$(date +%s)
  for host in "${hosts[@]}"; do
    if [ "${replied[$host]}" != 0 ]; then continue; fi
    for folder in "${shared_folders[@]}"; do
      if [ -z "${found["$host unseen"]:-}${found["$host unwritable"]:-}" ] &&
          [ ! -e "$folder/$token.${found["$host name"]}" ]; then
        problems+=("4 host $host: what it writes to '$folder' is not seen here: is it the same NFS?")
      fi
    done
  done
  for folder in "${shared_folders[@]}"; do rm -f "$folder/$token" "$folder/$token".*; done
  rm -rf "$answers"
}

# same HOST WHAT TEXT HINT: the host's value of WHAT must be this host's.
same() {
  local first=${hosts[0]}
  if [ "${found["$1 $2"]:-}" != "${found["$first $2"]:-}" ]; then
    problems+=("2 host $1: $3 differ from those on $first$4")
  fi
}

check_host() {
  local host=$1 value
  if [ -z "${found["$host program"]}" ]; then
    problems+=("2 host $host: '$program' is not there")
    return
  fi
  same "$host" program "the bytes of '$program'" ": install the same build everywhere"
  if [ -n "${found["$host missing"]}" ]; then
    problems+=("2 host $host: the program's libraries are not found: ${found["$host missing"]}")
  else
    same "$host" libraries "the program's libraries (names or sizes)" \
      ": compare 'ldd $program' on both"
  fi
  same "$host" model "the bytes of config.json in '$(argument model)'" \
    ": the model must be visible from every host"
  if [ -n "${found["$host unseen"]:-}" ]; then
    problems+=("4 host $host: '${found["$host unseen"]}' is not the folder that $(uname -n) sees: \
--out and --workspace must lie on a file system that all hosts share")
  elif [ -n "${found["$host unwritable"]:-}" ]; then
    problems+=("4 host $host: cannot write to '${found["$host unwritable"]}'")
  fi
  value=${found["$host clock"]}
  if ((value < asked_at - clock_tolerance || value > answered_at + clock_tolerance)); then
    problems+=("2 host $host: its clock is $((value - asked_at)) s from that of $(uname -n): \
synchronize them (chrony, ntpd)")
  fi
  value=${found["$host memory"]:-0}
  if ((value < 65536)); then
    problems+=("4 host $host: /dev/shm has $((value / 1024)) MiB left: the ranks of a host talk \
through it and need 64 MiB")
  fi
}

# What --min-free says, else a quarter of the model: no format is smaller.
check_free_space() {
  local out workspace needed folder left
  out=$(argument out)
  if [ -z "$out" ]; then return; fi
  workspace=$(argument workspace)
  if [ -n "$min_free" ]; then
    needed=$(numfmt --from=iec "$min_free")
  elif [ -n "$(ls -A "${workspace:-$out.workspace}" 2>/dev/null)" ]; then
    return # goes on, with what it has written already
  else
    needed=$(($({ stat -Lc %s "$(argument model)"/*.safetensors 2>/dev/null || true; } |
      awk '{s += $1} END {printf "%d", s / 4}')))
  fi
  folder=${shared_folders[0]}
  left=$(df -B1 --output=avail "$folder" | tail -n 1)
  if ((left < needed)); then
    problems+=("4 host $(uname -n): '$folder' has $(numfmt --to=iec "$left") left, the run needs \
$(numfmt --to=iec "$needed") at least")
  fi
}

# Ends the script when a host cannot take part, one line for each reason.
check_hosts() {
  local host problem
  for host in "${hosts[@]}"; do
    if [ "${replied[$host]}" = 0 ]; then check_host "$host"; fi
  done
  check_free_space
  if ((${#problems[@]} == 0)); then return; fi
  for problem in "${problems[@]}"; do printf 'error: %s\n' "${problem#* }" >&2; done
  exit "${problems[0]%% *}"
}
