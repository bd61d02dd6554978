"""Checkpoints in the layouts of compressed-tensors, AutoAWQ and GPTQ: what the libraries make of them,
what is read back, refusals and damage."""
import json
import os
import shutil
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

from checkpoints import read_checkpoint_tensors, read_safetensors, write_safetensors
from halftone_cli import (DATA, FAILED, INPUT, NANO_LLAMA, SMALL_CALIBRATION, USAGE, CliTest,
                          file_sums, main, read_json, run, summary_of)
from models import ARCHS

PYTHON = os.environ.get("HALFTONE_INTEROP_PYTHON")
SCRIPT = Path(__file__).resolve().parent / "load_library_targets.py"
TEXT = DATA / "text" / "eval_selfwritten.jsonl"
LINES, LENGTH = 8, 96

# Format: the compression that its config group names.
COMPRESSED = {
    "fp8": "float-quantized",
    "fp8_pc_pt": "float-quantized",
    "fp8_pb_wo": "naive-quantized",
    "int8": "int-quantized",
    "int8_wo": "pack-quantized",
    "int4_wo": "pack-quantized",
    "nvfp4": "nvfp4-pack-quantized",
    "w4a16_nvfp4": "nvfp4-pack-quantized",
    "mxfp4": "mxfp4-pack-quantized",
    "mxfp8": "mxfp8-quantized",
}
REFUSED = ("w4a8_awq", "w4a8_nvfp4_fp8", "w4a8_mxfp4_fp8", "nvfp4_svdquant", "nf4")


def has_packages():
    if not PYTHON:
        return False
    command = [PYTHON, "-c", "import torch, transformers, compressed_tensors"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class LibraryTargets(CliTest):
    @classmethod
    def setUpClass(cls):
        """Unified checkpoints of all formats from one pass, and what they are exported to."""
        cls.made = Path(tempfile.mkdtemp(prefix="halftone-app-"))
        cls.addClassCleanup(shutil.rmtree, cls.made, ignore_errors=True)
        cls.must("quantize", "--model", NANO_LLAMA, "--format", ",".join(COMPRESSED), "--out",
                 cls.made / "unified", "--kv-cache", "fp8", *SMALL_CALIBRATION)
        cls.must("quantize", "--model", NANO_LLAMA, "--format", "int4_wo", "--out",
                 cls.made / "int4", *SMALL_CALIBRATION)
        for name in COMPRESSED:
            cls.must("export", "--model", cls.made / "unified" / name, "--target",
                     "compressed-tensors", "--out", cls.made / "compressed-tensors" / name)
        for target, name in (("compressed-tensors", "packed"), ("autoawq", "autoawq"),
                             ("gptq", "gptq")):
            cls.must("export", "--model", cls.made / "int4", "--target", target, "--out",
                     cls.made / name)

    @staticmethod
    def must(*arguments):
        result = run(*arguments)
        if result.returncode:
            raise RuntimeError(f"{arguments}\n{result.stderr}")

    def evaluated(self, folder, *options):
        return self.perplexity(folder, "--data", TEXT, "--data-samples", LINES, "--data-length",
                               LENGTH, *options)

    @unittest.skipUnless(has_packages(), "HALFTONE_INTEROP_PYTHON names no Python with transformers "
                                         "and compressed-tensors")
    def test_the_libraries_read_them(self):
        models = {name: str(self.made / "compressed-tensors" / name) for name in COMPRESSED}
        text = [json.loads(line)["text"] for line in TEXT.read_text().splitlines()[:LINES]]
        words = {"unified": self.made / "int4", "compressed-tensors": self.made / "packed"}
        words.update({name: self.made / name for name in ("autoawq", "gptq")})
        job = self.write("job.json", json.dumps({
            "models": models, "text": text, "length": LENGTH,
            "words": {name: str(folder) for name, folder in words.items()}}))
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        result = subprocess.run([PYTHON, SCRIPT, job], capture_output=True, encoding="utf-8",
                                env=environment, timeout=500, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        found = json.loads(result.stdout.splitlines()[-1])
        for name, model in found["models"].items():
            with self.subTest(name):
                ours = self.evaluated(models[name], "--dtype", "float32")
                print(f"{name}: {model['perplexity']:.4f} in transformers, {ours:.4f} here")
                self.assert_close(model["perplexity"], ours, 1e-2, name)
                self.assertEqual(model["generated"], 8)
                # 28 linears and the caches of 4 layers.
                self.assertEqual(model["schemes"], 32)
        for linear, agreement in found["words"].items():
            for what, agrees in agreement.items():
                self.assertTrue(agrees, f"{linear}: {what}")

    def test_they_hold_what_the_unified_checkpoint_does(self):
        for name, compression in COMPRESSED.items():
            folder = self.made / "compressed-tensors" / name
            with self.subTest(name):
                unified = self.evaluated(self.made / "unified" / name)
                # A global scale is a reciprocal, rounded.
                self.assert_close(self.evaluated(folder), unified, 5e-3 if "nvfp4" in name else 0)
                config = read_json(folder / "config.json")["quantization_config"]
                self.assertEqual(config["format"], compression)
                self.assertEqual(config["config_groups"]["group_0"]["targets"], ["Linear"])
                self.assertIn("lm_head", config["ignore"])
                self.assertEqual(config["kv_cache_scheme"]["num_bits"], 8)
                self.assertFalse((folder / "hf_quant_config.json").exists())
                self.succeed("verify", folder, "--against", NANO_LLAMA)
        plain = self.evaluated(self.made / "int4")
        for target in ("autoawq", "gptq"):
            self.assert_close(self.evaluated(self.made / target), plain, 2e-3, target)
            self.succeed("verify", self.made / target, "--against", NANO_LLAMA, "--engine", "vllm")

    def test_global_scales_are_reciprocals(self):
        unified = read_checkpoint_tensors(self.made / "unified" / "nvfp4")
        stored = read_checkpoint_tensors(self.made / "compressed-tensors" / "nvfp4")
        name = "model.layers.1.mlp.up_proj."
        self.assertEqual(stored[name + "weight_packed"].data, unified[name + "weight"].data)
        self.assertEqual(stored[name + "weight_scale"].data, unified[name + "weight_scale"].data)
        for mine, theirs in (("weight_scale_2", "weight_global_scale"),
                             ("input_scale", "input_global_scale")):
            scale, = struct.unpack("<f", unified[name + mine].data)
            other, = struct.unpack("<f", stored[name + theirs].data)
            self.assertEqual(stored[name + theirs].shape, [1])
            self.assertAlmostEqual(scale * other, 1.0, places=6)
        cache = stored["model.layers.1.self_attn.k_scale"]
        self.assertEqual(cache.shape, [1])
        self.assertEqual(cache.data, unified["model.layers.1.self_attn.k_proj.k_scale"].data)

    def test_quantize_folds_what_the_layout_cannot_hold(self):
        unified = self.quantize("unified-awq", "--format", "int4_awq")
        self.refuse(USAGE, ["o_proj", "pre_quant_scale", "quantize the original", "--target hf"],
                    "export", "--model", unified, "--target", "autoawq", "--out",
                    self.folder / "refused")
        found = {}
        for target in ("autoawq", "gptq", "compressed-tensors"):
            out = self.quantize(target, "--format", "int4_awq", "--target", target)
            self.assertEqual(summary_of(out)["layout"]["target"], target)
            self.assertFalse((self.folder / f".{target}.unified").exists())
            self.succeed("verify", out, "--against", NANO_LLAMA)
            found[target] = self.evaluated(out)
        smoothed = self.quantize("sq", "--format", "int8_sq", "--target", "compressed-tensors")
        original = self.evaluated(NANO_LLAMA)
        self.assert_close(self.evaluated(smoothed), original, 0.06)
        plain = self.evaluated(self.made / "int4")
        print(f"original {original:.4f}, rounded {plain:.4f}, AWQ {found}")
        for value in found.values():
            self.assertLess(value, plain)
            self.assert_close(value, found["gptq"], 2e-3)

    def test_ranks_and_the_store_give_the_same_bytes(self):
        options = ("--format", "int4_wo,fp8", "--target", "compressed-tensors")
        one = self.quantize("one", *options)
        two = self.quantize("two", *options, ranks=2)
        self.assert_same_checkpoint(two, one)
        self.succeed("export", "--store", self.folder / "one.workspace" / "calibration.h5", "--model",
                     NANO_LLAMA, *options, "--out", self.folder / "again")
        self.assert_same_checkpoint(self.folder / "again", one)
        self.succeed("export", "--model", self.made / "int4", "--target", "gptq", "--out",
                     self.folder / "gptq", ranks=2)
        self.assertEqual(file_sums(self.folder / "gptq"), file_sums(self.made / "gptq"))

    def test_configurations_keep_what_engines_need(self):
        for target in ("hf", "compressed-tensors"):
            out = self.folder / target
            self.succeed("quantize", "--model", ARCHS / "deepseek-moonlight", "--format", "int8_wo",
                         "--target", target, "--out", out)
            config = read_json(out / "config.json")
            source = read_json(ARCHS / "deepseek-moonlight" / "config.json")
            for key in ("topk_method", "scoring_func"):
                self.assertEqual(config[key], source[key])

    def test_refusals(self):
        out = self.folder / "refused"
        for name in REFUSED:
            self.refuse(USAGE, ["--target compressed-tensors", "--target hf"], "quantize", "--model",
                        NANO_LLAMA, "--format", name, "--target", "compressed-tensors", "--out", out)
        self.refuse(USAGE, ["KV cache", "NVFP4"], "quantize", "--model", NANO_LLAMA, "--format", "fp8",
                    "--kv-cache", "nvfp4", "--target", "compressed-tensors", "--out", out)
        for target in ("autoawq", "gptq"):
            self.refuse(USAGE, ["INT4", "fp8"], "export", "--model", self.made / "unified" / "fp8",
                        "--target", target, "--out", out)
            self.refuse(USAGE, ["KV cache"], "export", "--model", self.made / "unified" / "int4_wo",
                        "--target", target, "--out", out)
        self.refuse(INPUT, ["not a unified checkpoint"], "export", "--model", self.made / "gptq",
                    "--target", "autoawq", "--out", out)
        self.refuse(USAGE, ["not quantized"], "export", "--model", NANO_LLAMA, "--target", "gptq",
                    "--out", out)
        self.refuse(INPUT, ["quantized already"], "quantize", "--model", self.made / "autoawq",
                    "--format", "fp8", "--out", out)
        self.assertFalse(out.exists())

    def damaged(self, target, tensor, change):
        folder = self.folder / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.made / target, folder)
        path = folder / "model.safetensors"
        tensors = read_safetensors(path)
        tensors[tensor].data = change(tensors[tensor].data)
        write_safetensors(path, tensors)
        return folder

    def test_damage_is_found(self):
        linear = "model.layers.2.mlp.gate_proj."
        zero_scale = self.damaged("autoawq", linear + "scales", lambda data: bytes(2) + data[2:])
        self.refuse(FAILED, ["zero-scale", "gate_proj.scales"], "verify", zero_scale)
        zeros = self.damaged("autoawq", linear + "qzeros", lambda data: bytes(4) + data[4:])
        self.refuse(INPUT, ["asymmetric", "gate_proj.qzeros"], "evaluate", "--model", zeros, "--data",
                    TEXT, "--data-samples", 1)
        order = self.damaged("gptq", linear + "g_idx", lambda data: b"\x01" + data[1:])
        self.refuse(INPUT, ["g_idx", "activation order"], "evaluate", "--model", order, "--data",
                    TEXT, "--data-samples", 1)
        shape = self.damaged("packed", linear + "weight_shape",
                             lambda data: b"\x01" + data[1:])
        self.refuse(INPUT, ["weight_shape"], "evaluate", "--model", shape, "--data", TEXT,
                    "--data-samples", 1)


if __name__ == "__main__":
    main()
