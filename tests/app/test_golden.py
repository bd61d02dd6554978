"""The exported checkpoint against those that NVIDIA Model Optimizer 0.47 wrote for the same model."""
import base64
import hashlib
import json
import struct

from checkpoints import read_checkpoint_tensors
from halftone_cli import DATA, main, read_json
from models import ModelTest

CALIBRATION = ("--calib", DATA / "goldens" / "calib_ids.jsonl", "--calib-samples", 64,
               "--calib-length", 256)


class Golden(ModelTest):
    model = "nano-llama"
    batches = ()

    def golden(self, name):
        return read_json(DATA / "goldens" / self.model / f"{name}.json")

    def check_format(self, name):
        golden = self.golden(name)
        out = self.quantize(name, "--format", name, *CALIBRATION, *self.batches,
                            model=DATA / "models" / self.model)
        self.check_tensors(read_checkpoint_tensors(out), golden["tensors"])
        # As texts: the order of the keys counts.
        self.assertEqual(json.dumps(read_json(out / "hf_quant_config.json"), indent=1),
                         json.dumps(golden["hf_quant_config"], indent=1))
        self.assertEqual(json.dumps(read_json(out / "config.json")["quantization_config"], indent=1),
                         json.dumps(golden["config_json_quantization_config"], indent=1))

    def check_tensors(self, tensors, golden):
        self.assertEqual(sorted(tensors), sorted(golden))
        for name, expected in golden.items():
            found = tensors[name]
            self.assertEqual((found.dtype, found.shape), (expected["dtype"], expected["shape"]), name)
            if name.endswith(".input_scale"):
                # Depends on the last bits of the forward pass.
                scale, = struct.unpack("<f", found.data)
                self.assert_close(scale, expected["values"], 0.01, name)
            else:
                self.assertEqual(hashlib.sha256(found.data).hexdigest(), expected["sha256"], name)

    def check_smoothed_format(self, name, *options):
        """Weights that depend on activations: nearly all bytes, and everything but weights, equal."""
        golden = self.golden(name)
        out = self.quantize(name, *(options or ("--format", name)), *CALIBRATION, "--batch-size", 8,
                            model=DATA / "models" / self.model)
        tensors = read_checkpoint_tensors(out)
        self.assertEqual(sorted(tensors), sorted(golden["tensors"]))
        equal = total = 0
        for tensor, expected in golden["tensors"].items():
            found = tensors[tensor]
            if self.is_wider(tensor, found, expected):
                continue
            self.assertEqual((found.dtype, found.shape), (expected["dtype"], expected["shape"]))
            total += len(found.data)
            equal += len(found.data) * self.equal_share(found.data, expected)
        self.assertGreater(equal / total, 0.99)
        for file, key in (("hf_quant_config.json", "hf_quant_config"),
                          ("config.json", "config_json_quantization_config")):
            config = read_json(out / file)
            config = config["quantization_config"] if file == "config.json" else config
            self.assertEqual(json.dumps(config, indent=1), json.dumps(golden[key], indent=1))
        return golden, out

    def is_wider(self, name, found, expected):
        return False

    @staticmethod
    def equal_share(data, expected):
        if hashlib.sha256(data).hexdigest() == expected["sha256"]:
            return 1.0
        if "b64" in expected:
            ours, theirs = data, base64.b64decode(expected["b64"])
        elif "sample" in expected:
            ours = data[::expected["sample"]["stride_bytes"]]
            theirs = bytes(expected["sample"]["bytes"])
        else:
            return 0.0
        return sum(a == b for a, b in zip(ours, theirs)) / len(theirs)

    def test_int8_smoothquant(self):
        self.check_smoothed_format("int8_sq")

    def check_awq(self, *options):
        golden, out = self.check_smoothed_format("int4_awq", *options)
        linears = read_json(out / "summary.json")["linears"]
        for name, expected in golden["awq"].items():
            self.assertAlmostEqual(linears[name]["awq_alpha"], float(expected["alpha"]), 3, name)

    def test_int4_awq(self):
        self.check_awq()

    def test_fp8(self):
        self.check_format("fp8")

    def test_nvfp4(self):
        self.check_format("nvfp4")


class GoldenExperts(Golden):
    """The same with latent attention and routed experts."""

    model = "nano-deepseek-v3"
    batches = ("--batch-size", 8)

    def is_wider(self, name, found, expected):
        """The reference's INT4 run rounded the selection bias; it stays F32 here."""
        if not name.endswith("e_score_correction_bias") or expected["dtype"] != "BF16":
            return False
        self.assertEqual((found.dtype, found.shape), ("F32", expected["shape"]))
        return True

    def test_int4_awq(self):
        """In blocks of 32: 128 does not divide the widths of the experts."""
        self.check_awq("--recipe", self.int4_recipe(block=32))


if __name__ == "__main__":
    main()
