"""Python's safetensors and transformers open what the program writes."""
import hashlib
import json
import os
import subprocess
import unittest
from pathlib import Path

from checkpoints import read_checkpoint_tensors
from halftone_cli import NANO_LLAMA, CliTest, main

ROOT = Path(__file__).resolve().parents[2]

# Runs in the other interpreter; prints what the libraries saw.
OPEN_ALL = """
import hashlib, json, pathlib, sys
from safetensors import deserialize, safe_open
from transformers import AutoConfig, AutoTokenizer, GenerationConfig
folder = pathlib.Path(sys.argv[1])
seen = {}
for path in sorted(folder.glob("*.safetensors")):
    with safe_open(path, framework="np") as file:
        assert (file.metadata() or {}).get("format") == "pt"
    # NumPy has no BF16 and no FP8: the library's own types need no framework.
    for name, tensor in deserialize(path.read_bytes()):
        seen[name] = [tensor["dtype"], tensor["shape"], hashlib.sha256(tensor["data"]).hexdigest()]
config = AutoConfig.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
generation = GenerationConfig.from_pretrained(folder)
generation.validate(strict=True)
text = "The cat sat on the mat."
ids = tokenizer(text)["input_ids"]
print(json.dumps({"tensors": seen, "architectures": config.architectures,
                  "quantization": config.quantization_config, "ids": ids}))
"""

# Loads an NF4 checkpoint through bitsandbytes on the CPU; prints the logits of a line, those of the
# original, and how one weight compares with bitsandbytes' own quantization of it.
LOAD_NF4 = """
import json, sys, torch, transformers, bitsandbytes
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
quantized = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], device_map="cpu")
original = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[2], dtype=torch.bfloat16)
layer = quantized.model.layers[1].mlp.down_proj
assert isinstance(layer, bitsandbytes.nn.Linear4bit), type(layer)
weight = original.model.layers[1].mlp.down_proj.weight.data
theirs, state = quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
ours = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
# bitsandbytes repacks the codes for the CPU when they are first used: compare them before.
codes_equal = (layer.weight.data.flatten() == theirs.flatten()).float().mean().item()
ids = torch.arange(5, 69).unsqueeze(0)
with torch.no_grad():
    a, b = (model(ids).logits.float().flatten() for model in (quantized, original))
print(json.dumps({
    "cosine": torch.nn.functional.cosine_similarity(a, b, dim=0).item(),
    "codes_equal": codes_equal,
    "error": ((ours - weight.float()).norm() / weight.float().norm()).item(),
    "their_error": ((dequantize_4bit(theirs, state).float() - weight.float()).norm()
                    / weight.float().norm()).item()}))
"""


def interpreter():
    """The Python to use, or None: the one that was configured, or one of the repository's own."""
    configured = os.environ.get("HALFTONE_INTEROP_PYTHON")
    candidates = [configured] if configured else [
        ROOT / ".venv" / "bin" / "python", ROOT / ".venv-interop" / "bin" / "python"]
    for python in candidates:
        if not Path(python).exists():
            continue
        found = subprocess.run([python, "-c", "import numpy, safetensors, transformers"],
                               capture_output=True, check=False)
        if found.returncode == 0:
            return python
    if configured:
        raise RuntimeError(f"HALFTONE_INTEROP_PYTHON={configured} cannot import numpy, "
                           "safetensors and transformers")
    return None


PYTHON = interpreter()


@unittest.skipUnless(PYTHON, "no Python with numpy, safetensors and transformers: set "
                             "HALFTONE_INTEROP_PYTHON")
class Interop(CliTest):
    def open_all(self, folder):
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        result = subprocess.run([PYTHON, "-c", OPEN_ALL, folder], capture_output=True,
                                encoding="utf-8", env=environment, timeout=300, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout.splitlines()[-1])

    def check_opens(self, name, *options):
        out = self.quantize(name, *options)
        seen = self.open_all(out)
        expected = {tensor: [found.dtype, found.shape, hashlib.sha256(found.data).hexdigest()]
                    for tensor, found in read_checkpoint_tensors(out).items()}
        self.assertEqual(seen["tensors"], expected)
        self.assertEqual(seen["architectures"], ["LlamaForCausalLM"])
        self.assertEqual(seen["quantization"]["quant_method"], "modelopt")
        tokenized = self.succeed("tokenize", "--model", out, "--input",
                                 self.write("text.jsonl", '{"text": "The cat sat on the mat."}\n'))
        self.assertEqual(json.loads(tokenized.stdout)["ids"], seen["ids"])
        return out

    def test_fp8(self):
        self.check_opens("fp8", "--format", "fp8", "--kv-cache", "fp8")

    def test_nvfp4(self):
        self.check_opens("nvfp4", "--format", "nvfp4")

    def test_int8_weight_only(self):
        self.check_opens("int8_wo", "--format", "int8_wo")

    def test_nf4_in_bitsandbytes(self):
        try:
            subprocess.run([PYTHON, "-c", "import torch, bitsandbytes, accelerate"], check=True,
                           capture_output=True)
        except subprocess.CalledProcessError:
            self.skipTest("that Python has no torch, bitsandbytes and accelerate")
        out = self.quantize("nf4", "--format", "nf4")
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        result = subprocess.run([PYTHON, "-c", LOAD_NF4, out, NANO_LLAMA], capture_output=True,
                                encoding="utf-8", env=environment, timeout=300, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        seen = json.loads(result.stdout.splitlines()[-1])
        self.assertEqual(seen["codes_equal"], 1.0)
        self.assert_close(seen["error"], seen["their_error"], 1e-3)
        self.assertGreater(seen["cosine"], 0.95)

    def test_shards(self):
        out = self.check_opens("shards", "--format", "fp8", "--max-shard-size", 500000)
        self.assertGreater(len(list(out.glob("*.safetensors"))), 2)


if __name__ == "__main__":
    main()
