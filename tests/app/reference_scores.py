"""Makes reference_scores.json: the gradient scores of AutoQuantize by the reference's own formula.

Usage: python3 reference_scores.py > reference_scores.json   (needs torch and transformers)

The first SAMPLES lines of the goldens' calibration ids, in batches of BATCH, FP32, without padding.
For each batch one forward and backward pass of the model's own mean cross entropy; a group's score
is the sum over its linears and all elements of (gradient * change of the output)^2, the change being
that of the linear with quantized weight and input on the unquantized input (calibration.md, 9.4).
Formats are fake-quantized by the formulas of calibration.md, 3.1 and 3.3, with maxima over the same
samples. Nothing of the program is used.
"""
import json
import sys

import torch
import transformers

from halftone_cli import DATA, NANO_LLAMA

SAMPLES, BATCH = 16, 4
GROUPS = (("self_attn.", ("q_proj", "k_proj", "v_proj")), ("self_attn.", ("o_proj",)),
          ("mlp.", ("gate_proj", "up_proj")), ("mlp.", ("down_proj",)))


def fp8(x, amax):
    scale = 448.0 / amax
    return (x * scale).clamp(-448.0, 448.0).to(torch.float8_e4m3fn).float() / scale


def e2m1(t):
    """Nearest of 0, .5, 1, 1.5, 2, 3, 4, 6, ties to even."""
    steps = torch.tensor([.25, .75, 1.25, 1.75, 2.5, 3.5, 5.0])
    values = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    up = torch.bucketize(t, steps, right=True)   # a tie goes up ...
    down = torch.bucketize(t, steps)             # ... or down
    even = torch.where(down % 2 == 0, down, up)
    return values[torch.where(up == down, up, even)]


def nvfp4(x, amax):
    whole = amax / (6.0 * 448.0)
    blocks = x.reshape(*x.shape[:-1], -1, 16)
    largest = blocks.abs().amax(-1, keepdim=True)
    scale = (largest / (6.0 * whole)).clamp(max=448.0).to(torch.float8_e4m3fn).float() * whole
    scale = torch.where(scale < 1e-5, torch.ones_like(scale), scale)
    return (blocks.sign() * e2m1(blocks.abs() / scale) * scale).reshape(x.shape)


def groups_of(model):
    groups = {"lm_head": ["lm_head"]}
    for layer in range(model.config.num_hidden_layers):
        for parent, linears in GROUPS:
            prefix = f"model.layers.{layer}.{parent}"
            groups[prefix + ",".join(linears)] = [prefix + name for name in linears]
    return groups


def main():
    lines = (DATA / "goldens" / "calib_ids.jsonl").read_text().splitlines()[:SAMPLES]
    batches = torch.tensor([json.loads(line) for line in lines]).split(BATCH)
    model = transformers.AutoModelForCausalLM.from_pretrained(NANO_LLAMA, dtype=torch.float32).eval()
    groups = groups_of(model)
    linears = {name: model.get_submodule(name) for names in groups.values() for name in names}
    seen, amax = {}, {name: 0.0 for name in linears}

    def watch(name):
        def hook(module, inputs, output):
            output.retain_grad()
            seen[name] = (inputs[0].detach(), output)
            amax[name] = max(amax[name], inputs[0].abs().max().item())
        return hook
    for name, module in linears.items():
        module.register_forward_hook(watch(name))
    for ids in batches:
        model(ids)

    scores = {name: {"fp8": 0.0, "nvfp4": 0.0} for name in groups}
    losses = []
    for ids in batches:
        loss = model(ids, labels=ids).loss
        loss.backward()
        losses.append(loss.item())
        for group, names in groups.items():
            for name in names:
                x, y = seen[name]
                weight = linears[name].weight.detach()
                for kind, quantize in (("fp8", fp8), ("nvfp4", nvfp4)):
                    change = torch.nn.functional.linear(
                        quantize(x, amax[name]), quantize(weight, weight.abs().max())) - y.detach()
                    scores[group][kind] += (y.grad * change).square().double().sum().item()
        model.zero_grad()
    json.dump({"torch": torch.__version__, "transformers": transformers.__version__,
               "samples": SAMPLES, "batch": BATCH, "loss": sum(losses) / len(losses),
               "scores": scores}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
