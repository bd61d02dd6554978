"""Checkpoints that the compressed-tensors package made: what they compute, and quantized anew."""
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from checkpoints import bf16_tensor, floats_of, read_safetensors
from halftone_cli import main, summary_of
from models import ModelTest, golden_input, model_of, relative_error, rms_error

CASES = ("int4", "int4-asymmetric", "fp8-tensor", "fp8-channel", "fp8-block", "int8")
PYTHON = os.environ.get("HALFTONE_INTEROP_PYTHON")
SCRIPT = Path(__file__).resolve().parent / "compress_model.py"


def has_package():
    if not PYTHON:
        return False
    command = [PYTHON, "-c", "import torch, safetensors, compressed_tensors"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@unittest.skipUnless(has_package(), "HALFTONE_INTEROP_PYTHON names no Python with compressed_tensors")
class CompressedTensors(ModelTest):
    @classmethod
    def setUpClass(cls):
        cls.made = Path(tempfile.mkdtemp(prefix="halftone-app-"))
        cls.addClassCleanup(shutil.rmtree, cls.made, ignore_errors=True)
        # A narrower MLP, so that groups of 32 divide all widths.
        checkpoint = model_of("llama-3.1")
        checkpoint.config["intermediate_size"] = 32
        for name, tensor in checkpoint.tensors.items():
            values = floats_of(tensor) if tensor.dtype == "BF16" else ()
            if name.endswith(("gate_proj.weight", "up_proj.weight")):
                checkpoint.tensors[name] = bf16_tensor(values[:32 * 64], [32, 64])
            elif name.endswith("down_proj.weight"):
                narrow = [values[48 * row + c] for row in range(64) for c in range(32)]
                checkpoint.tensors[name] = bf16_tensor(narrow, [64, 32])
        cls.model = checkpoint.save(cls.made / "model")
        result = subprocess.run([PYTHON, SCRIPT, cls.model, cls.made], capture_output=True,
                                encoding="utf-8", timeout=200, check=False)
        if result.returncode:
            raise RuntimeError(result.stderr)

    def logits_of(self, folder):
        return self.logits(folder, golden_input("llama-3.1"), "--dtype", "float32")["logits"]

    def test_what_they_compute(self):
        original = self.logits_of(self.model)
        for case in CASES:
            with self.subTest(case):
                found = self.logits_of(self.made / case)
                plain = self.logits_of(self.made / f"{case}-plain")
                error = relative_error(found, plain)
                print(f"{case}: {error:.2e} from the package's, {rms_error(found, original):.4f} "
                      "from the original")
                self.assertLess(error, 1e-5)
                self.assertGreater(rms_error(found, original), 1e-3)

    def test_quantized_anew(self):
        for case in CASES:
            with self.subTest(case):
                options = ("--format", "fp8", "--calib", self.ids())
                anew = self.quantize(case + "-a", *options, model=self.made / case)
                plain = self.quantize(case + "-b", *options, model=self.made / f"{case}-rounded")
                found, expected = (read_safetensors(folder / "model.safetensors")
                                   for folder in (anew, plain))
                self.assertEqual(found, expected)
                self.assertEqual((anew / "config.json").read_text(),
                                 (plain / "config.json").read_text())
                dropped = {entry["tensor"].rsplit(".", 1)[1]
                           for entry in summary_of(anew)["tensors"]["dropped"]}
                self.assertIn("weight_scale", dropped)
                self.assertEqual("weight_shape" in dropped, case.startswith("int4"))


if __name__ == "__main__":
    main()
