"""Makes reference_perplexity.json: what transformers computes for the models of the perplexity tests.

Usage: python3 reference_perplexity.py > reference_perplexity.json   (needs torch and transformers)

Protocol: each line's ids with BOS, cut to 512, one row at a time and so without padding; logits in
FP32; mean negative log-likelihood over all predicted tokens of all lines. `fp8` fake-quantizes weights
and inputs per tensor with the maxima that the reference exporter calibrated (goldens/nano-llama).
All lines are used once, the first SAMPLES otherwise.
"""
import json
import math
import sys
import tempfile
from pathlib import Path

import torch
import transformers

from checkpoints import VARIANTS, Checkpoint
from halftone_cli import DATA

SAMPLES = 32


def fake_fp8(x, amax):
    scale = amax / 448.0
    wide = (x.float() / scale).clamp(-448.0, 448.0)
    return (wide.to(torch.float8_e4m3fn).float() * scale).to(x.dtype)


def quantize_in_place(model):
    quantizers = json.loads((DATA / "goldens/nano-llama/fp8.json").read_text())["quantizers"]
    for name, module in model.named_modules():
        amax = quantizers.get(name + ".input_quantizer")
        if amax is None:
            continue
        module.weight.data = fake_fp8(module.weight.data, module.weight.data.float().abs().max())
        module.register_forward_pre_hook(
            lambda _, inputs, amax=amax["amax"]["values"]: (fake_fp8(inputs[0], amax),))


def perplexity(model, samples):
    nll, tokens = 0.0, 0
    with torch.inference_mode():
        for ids in samples:
            row = torch.tensor([ids])
            logits = model(row).logits[0, :-1].float()
            nll += torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum").item()
            tokens += len(ids) - 1
    return {"value": math.exp(nll / tokens), "tokens": tokens}


def main():
    results = {"torch": torch.__version__, "transformers": transformers.__version__}
    lines = (DATA / "text/eval_selfwritten.jsonl").read_text().splitlines()
    for name in VARIANTS:
        with tempfile.TemporaryDirectory() as folder:
            path = VARIANTS[name](Checkpoint()).save(Path(folder) / name)
            tokenizer = transformers.AutoTokenizer.from_pretrained(path)
            samples = [tokenizer(json.loads(line)["text"])["input_ids"][:512]
                       for line in lines]
            assert all(ids[0] == tokenizer.bos_token_id for ids in samples)
            results[name] = {"samples": SAMPLES}
            for dtype in ("float32", "bfloat16"):
                model = transformers.AutoModelForCausalLM.from_pretrained(
                    path, dtype=getattr(torch, dtype)).eval()
                results[name][dtype] = perplexity(model, samples[:SAMPLES])
                if name == "nano-llama" and dtype == "float32":
                    results[name]["whole_text"] = perplexity(model, samples)
                    quantize_in_place(model)
                    results[name]["fp8"] = perplexity(model, samples[:SAMPLES])
                print(name, dtype, results[name], file=sys.stderr)
    json.dump(results, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
