"""compare: two checkpoints tensor by tensor, quantized ones as weights too, and two stores."""
import json
import math
import shutil

from checkpoints import Checkpoint, Tensor, floats_of, read_checkpoint_tensors, with_values
from halftone_cli import (DONE, FAILED, INPUT, NANO_LLAMA, USAGE, CliTest, main, run, summary_of)

DOWN = "model.layers.1.mlp.down_proj"
NORM = "model.layers.2.input_layernorm.weight"


def decibels(a, b):
    noise = sum((x - y) ** 2 for x, y in zip(a, b))
    return 10 * math.log10(sum(x * x for x in a) / noise)


class Compare(CliTest):
    def compare(self, a, b):
        """Kind -> name -> entry."""
        result = run("compare", a, b, "--json")
        self.assertIn(result.returncode, (DONE, FAILED), result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(report["ok"], result.returncode == DONE)
        self.assertEqual(report["ok"], not report["problems"])
        by_kind = {}
        for entry in report["problems"]:
            by_kind.setdefault(entry["kind"], {})[entry["tensor"]] = entry
        return by_kind

    def names(self, by_kind):
        return {kind: sorted(entries) for kind, entries in by_kind.items()}

    def test_equal(self):
        out = self.quantize("out", "--format", "nvfp4")
        shutil.copytree(out, self.folder / "copy")
        self.assertEqual(self.compare(out, self.folder / "copy"), {})
        # Other files, the same tensors.
        Checkpoint(NANO_LLAMA).save(self.folder / "shards", shards=3)
        self.assertEqual(self.compare(NANO_LLAMA, self.folder / "shards"), {})

    def test_each_kind_of_difference(self):
        other = Checkpoint()
        original = dict(other.tensors)
        other.tensors["extra.weight"] = original[NORM]
        del other.tensors["model.layers.0.mlp.up_proj.weight"]
        other.tensors[NORM] = with_values(original[NORM], {0: 2.0, 5: -1.0})
        head = original["lm_head.weight"]
        other.tensors["lm_head.weight"] = Tensor("BF16", head.shape[::-1], head.data)
        embedding = original["model.embed_tokens.weight"]
        other.tensors["model.embed_tokens.weight"] = Tensor("F16", embedding.shape, embedding.data)
        other.config["rms_norm_eps"] = 1.0
        found = self.compare(NANO_LLAMA, other.save(self.folder / "other"))
        self.assertEqual(self.names(found), {
            "only-in-a": ["model.layers.0.mlp.up_proj.weight"], "only-in-b": ["extra.weight"],
            "bytes": [NORM], "shape": ["lm_head.weight"], "dtype": ["model.embed_tokens.weight"],
            "config": ["rms_norm_eps"]})
        self.assertAlmostEqual(found["bytes"][NORM]["db"],
                               decibels(floats_of(original[NORM]), floats_of(other.tensors[NORM])),
                               delta=0.01)

    def test_quantized_weights_are_compared_as_weights(self):
        """The original beside its export: the dB that packing recorded."""
        for name in ("nvfp4", "int8_wo", "fp8_pb_wo"):
            with self.subTest(name):
                out = self.quantize(name, "--format", name)
                found = self.compare(NANO_LLAMA, out)
                linears = summary_of(out)["linears"]
                self.assertEqual(set(found["weight"]), set(linears))
                for linear, record in linears.items():
                    self.assertAlmostEqual(found["weight"][linear]["db"], record["sqnr_db"],
                                           delta=0.002)

    def test_one_linear_that_was_packed_otherwise(self):
        out = self.quantize("out", "--format", "nvfp4")
        changed = Checkpoint(out)
        weight = changed.tensors[DOWN + ".weight"]
        data = bytearray(weight.data)
        data[3] ^= 0x08  # the sign of one value
        changed.tensors[DOWN + ".weight"] = Tensor(weight.dtype, weight.shape, bytes(data))
        found = self.compare(out, changed.save(self.folder / "changed"))
        self.assertEqual(self.names(found), {"bytes": [DOWN + ".weight"], "weight": [DOWN]})
        self.assertIn("1 of", found["bytes"][DOWN + ".weight"]["b"])
        self.assertGreater(found["weight"][DOWN]["db"], 20.0)

    def test_stores(self):
        for name, samples in (("a", 16), ("b", 16), ("c", 12)):
            self.quantize(name, "--format", "fp8", "--calib-samples", samples, "--calib-length", 48,
                          "--batch-size", 4)
        a, b, c = (self.folder / f"{name}.workspace" / "calibration.h5" for name in "abc")
        self.assertEqual(self.compare(a, b), {})
        found = self.compare(a, c)
        self.assertIn("data_fingerprint", found["meta"])
        scales = {name: read_checkpoint_tensors(self.folder / name) for name in "ac"}
        for key, tensor in scales["a"].items():
            if not key.endswith(".input_scale"):
                continue
            differs = tensor.data != scales["c"][key].data
            name = key.removesuffix(".input_scale") + " input_amax"
            self.assertEqual(name in found.get("value", {}), differs, name)

    def test_bad_input(self):
        store = self.write("x.h5", "no store")
        self.refuse(INPUT, ["x.h5"], "compare", store, store)
        self.refuse(INPUT, ["does not exist"], "compare", NANO_LLAMA, self.folder / "none")
        self.refuse(INPUT, ["config.json"], "compare", NANO_LLAMA, self.folder)
        self.refuse(USAGE, ["different kinds"], "compare", NANO_LLAMA, store)
        self.refuse(USAGE, ["--b"], "compare", NANO_LLAMA)
        self.refuse(USAGE, ["positional"], "compare", NANO_LLAMA, NANO_LLAMA, NANO_LLAMA)


if __name__ == "__main__":
    main()
