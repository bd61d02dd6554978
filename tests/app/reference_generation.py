"""Makes data/generation.json: what transformers' generate() continues the prompts of each model with.

Usage: python3 reference_generation.py > ../data/generation.json   (needs torch and transformers)

Greedy, FP32, 64 tokens; each prompt alone, and all of a model's prompts in one batch padded on the
left. With a KV cache but for longrope: transformers 5.17 feeds the last token alone to an empty cache
where a sequence grows beyond the original length. Only models whose logits transformers computes as data/archs' goldens say.
"""
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

from halftone_cli import DATA

TOKENS = 64
LENGTHS = (3, 29, 17, 1)


def prompts_of(vocabulary):
    """Ids that look random and are the same everywhere; none of the first 16, often special."""
    return [[16 + (7919 * (row + 1) + 104729 * place + 31 * place * place) % (vocabulary - 16)
             for place in range(length)] for row, length in enumerate(LENGTHS)]


def load(folder, scratch):
    shutil.copytree(folder, scratch)
    newer = scratch / "config.v5.json"
    if newer.exists():
        newer.replace(scratch / "config.json")
    for kind in (transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText):
        try:
            return kind.from_pretrained(scratch, dtype=torch.float32).eval()
        except (ValueError, KeyError, RuntimeError, AttributeError, ImportError) as error:
            print(folder.name, kind.__name__, str(error)[:200], file=sys.stderr)
    return None


def agrees(model, folder):
    golden = load_file(folder / "golden.safetensors")
    with torch.no_grad():
        logits = model(input_ids=golden["input_ids"], attention_mask=golden["attention_mask"],
                       position_ids=golden["position_ids"]).logits
    logits = logits[golden["attention_mask"] == 1]
    error = (logits - golden["logits"]).abs().max() / golden["logits"].abs().max()
    print(folder.name, "logits differ by", error.item(), file=sys.stderr)
    return error < 1e-4


def has_longrope(config):
    rope = config.get_text_config().rope_parameters or {}
    return rope.get("rope_type") == "longrope"


def continued(model, ids, mask):
    """With how far the best logit was above the second at each step, at the least."""
    result = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=TOKENS,
                            min_new_tokens=TOKENS, do_sample=False, pad_token_id=0,
                            eos_token_id=None, use_cache=not has_longrope(model.config),
                            output_logits=True, return_dict_in_generate=True)
    new = result.sequences[:, ids.shape[1]:]
    best = torch.stack(result.logits, 1).float().topk(2, -1).values
    return new.tolist(), (best[..., 0] - best[..., 1]).amin(-1).tolist()


def reference(model, vocabulary):
    prompts = prompts_of(vocabulary)
    alone, margins = [], []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        tokens, margin = continued(model, ids, torch.ones_like(ids))
        alone += tokens
        margins += margin
    longest = max(LENGTHS)
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    together, _ = continued(model, ids, mask)
    return {"prompts": prompts, "tokens": alone, "batch_agrees": together == alone,
            "least_margin": min(margins)}


def main():
    result = {}
    folders = sorted((DATA / "archs").iterdir()) + sorted((DATA / "models").iterdir())
    folders += [Path(argument) for argument in sys.argv[1:]]
    for folder in folders:
        config = json.loads((folder / "config.json").read_text())
        if config["model_type"] in ("t5", "whisper"):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            model = load(folder, Path(scratch) / folder.name)
        trained = not (folder / "golden.safetensors").exists()
        if model is None:
            continue
        if not trained and not agrees(model, folder):
            continue
        vocabulary = model.get_output_embeddings().weight.shape[0]
        result[folder.name] = reference(model, vocabulary)
        print(folder.name, "margin", result[folder.name]["least_margin"], "batch agrees:",
              result[folder.name]["batch_agrees"], file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
