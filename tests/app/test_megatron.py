"""Megatron-core and NeMo folders that PyTorch's distributed writer made, as sources."""
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from halftone_cli import (INPUT, NANO_LLAMA, CliTest, file_sums, main, read_json, sha256_of,
                          summary_of)

PYTHON = os.environ.get("HALFTONE_INTEROP_PYTHON")
SCRIPT = Path(__file__).resolve().parent / "make_megatron.py"


def has_torch():
    if not PYTHON:
        return False
    return subprocess.run([PYTHON, "-c", "import torch, safetensors"], capture_output=True,
                          check=False).returncode == 0


@unittest.skipUnless(has_torch(), "HALFTONE_INTEROP_PYTHON names no Python with torch")
class Megatron(CliTest):
    @classmethod
    def setUpClass(cls):
        cls.made = Path(tempfile.mkdtemp(prefix="halftone-app-"))
        cls.addClassCleanup(shutil.rmtree, cls.made, ignore_errors=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        result = subprocess.run([PYTHON, "-B", SCRIPT, NANO_LLAMA, cls.made], capture_output=True,
                                encoding="utf-8", timeout=300, check=False, env=environment)
        if result.returncode:
            raise RuntimeError(result.stderr)
        cls.megatron = cls.made / "megatron"
        cls.nemo = cls.made / "nemo"

    def test_the_same_checkpoint_comes_out(self):
        options = ("--format", "fp8")
        expected = self.quantize("expected", *options)
        given = self.quantize("given", *options, "--source-config", NANO_LLAMA,
                              model=self.megatron, ranks=2)
        self.assert_same_checkpoint(given, expected)
        dropped = {entry["tensor"]: entry["reason"]
                   for entry in summary_of(given)["tensors"]["dropped"]}
        self.assertIn("optimizer", dropped["optimizer.state.exp_avg.decoder.layers."
                                           "mlp.linear_fc1.weight"])
        self.assertIn("rng_state/shard_0_1", dropped)
        # Configuration and tokenizer of the NeMo folder itself.
        alone = self.quantize("alone", *options, model=self.nemo)
        self.assertEqual(sha256_of(alone / "model.safetensors"),
                         sha256_of(expected / "model.safetensors"))
        self.assertIn("tokenizer.json", file_sums(alone))
        config, wanted = read_json(alone / "config.json"), read_json(expected / "config.json")
        for key in ("architectures", "model_type", "vocab_size", "num_key_value_heads", "head_dim",
                    "rms_norm_eps", "max_position_embeddings", "quantization_config",
                    "bos_token_id", "eos_token_id"):
            self.assertEqual(config[key], wanted[key], key)
        self.succeed("verify", alone, "--against", self.nemo)

    def test_commands_that_read_a_source(self):
        iteration = self.megatron / "iter_0000100"
        self.succeed("compare", iteration, self.megatron)
        self.succeed("compare", self.nemo / "weights", self.nemo)
        inspected = self.succeed_json("inspect", iteration)
        tensors = {tensor["name"]: tensor for tensor in inspected["tensors"]}
        names = {tensor["name"]: tensor
                 for tensor in self.succeed_json("inspect", NANO_LLAMA)["tensors"]}
        self.assertEqual(sorted(tensors), sorted(names))
        self.assertEqual(tensors["lm_head.weight"]["shape"], names["lm_head.weight"]["shape"])
        for name in ("lm_head.weight", "model.layers.3.self_attn.v_proj.weight"):
            self.assertTrue(tensors[name]["file"].endswith(".distcp"))
        self.succeed("plan", "--model", self.nemo, "--format", "fp8", "--json")
        self.assert_close(self.perplexity(self.nemo, "--data-samples", 4),
                          self.perplexity(NANO_LLAMA, "--data-samples", 4), 1e-12)

    def test_bad_folders(self):
        folder = self.folder / "bad"
        shutil.copytree(self.megatron / "iter_0000100", folder)
        quantize = ("quantize", "--model", folder, "--format", "int8", "--out", self.folder / "out")
        (folder / "__3_0.distcp").rename(self.folder / "away")
        self.refuse(INPUT, ["__3_0.distcp", "missing"], *quantize, ranks=2)
        (folder / "__3_0.distcp").write_bytes((self.folder / "away").read_bytes()[:300_000])
        self.refuse(INPUT, ["__3_0.distcp", "truncated"], *quantize)
        (folder / "common.pt").unlink()
        self.refuse(INPUT, ["--source-config"], *quantize)
        (folder / ".metadata").write_bytes(b"\x80\x02cposix\nsystem\nX\x08\0\0\0echo bad\x85R.")
        self.refuse(INPUT, ["'posix.system' is not allowed"], *quantize)
        self.assertFalse((self.folder / "out").exists())


if __name__ == "__main__":
    main()
