#!/usr/bin/env bash
# From a fresh checkout to a quantized model: launch/quickstart.sh [FOLDER]
# Sets up, builds the program, quantizes the small model of tests/data to NVFP4 and FP8 in one run on
# two MPI ranks, and measures the perplexity of the original and of both results.
# The checkpoints go to FOLDER (build/quickstart) and replace what an earlier run left there.
SECONDS=0
started_in=$PWD
case ${1:-} in
  -h | --help)
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    exit 0 ;;
esac
out=$(realpath -m "${1:-$(dirname "${BASH_SOURCE[0]}")/../build/quickstart}")
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

"$root/launch/setup.sh"
set_up_seconds=$SECONDS

model=$root/tests/data/models/nano-llama
results=$out/results
mkdir -p "$results"

# halftone_json RANKS NAME ARGUMENTS...: standard output goes to results/NAME.json.
halftone_json() {
  local ranks=$1 name=$2
  shift 2
  if ! over_mpi "$ranks" build/halftone "$@" --json >"$results/$name.json" 2>"$results/$name.log"
  then
    cat "$results/$name.log" >&2
    fail 1 "halftone $1 failed"
  fi
}

say "quantizing tests/data/models/nano-llama to NVFP4 and FP8 on two MPI ranks"
halftone_json 2 quantize quantize --model "$model" --format nvfp4,fp8 \
  --out "$out/checkpoints" --calib-samples 128 --overwrite
say "measuring the perplexity of the original and of both checkpoints"
halftone_json 2 evaluate-original evaluate --model "$model"
halftone_json 2 evaluate-nvfp4 evaluate --model "$out/checkpoints/nvfp4"
halftone_json 2 evaluate-fp8 evaluate --model "$out/checkpoints/fp8"
halftone_json 1 inspect-original inspect "$model"

python3 - "$results" "$model" "$started_in" <<'PYTHON'
import json, math, pathlib, sys

results, model, started_in = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
read = lambda name: json.loads((results / f"{name}.json").read_text())
source = read("inspect-original")
weights = sum(math.prod(tensor["shape"]) for tensor in source["tensors"])
rows = [("original", source["bytes"], 8 * source["bytes"] / weights, model)]
for output in read("quantize")["outputs"]:
    rows.append((output["format"], output["bytes"], output["bits_per_weight"], output["dir"]))

def shown(folder):
    path = pathlib.Path(folder)
    return path.relative_to(started_in) if path.is_relative_to(started_in) else path

base = None
print(f"\n{'format':<10}{'MB':>8}{'bits/weight':>13}{'perplexity':>12}{'change':>9}  checkpoint")
for name, size, bits, folder in rows:
    value = read(f"evaluate-{name}")["tasks"]["perplexity"]["value"]
    base = base or value
    change = f"{100 * (value / base - 1):+.2f} %" if name != "original" else ""
    print(f"{name:<10}{size / 1e6:>8.2f}{bits:>13.2f}{value:>12.3f}{change:>9}  {shown(folder)}")
PYTHON
printf '\ndone in %d s (%d s of them set-up and build)\n' "$SECONDS" "$set_up_seconds"
