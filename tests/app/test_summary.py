"""summary.json and what `quantize --json` prints."""
import hashlib
import math
import os

from checkpoints import floats_of, read_safetensors
from halftone_cli import NANO_LLAMA, SMALL_CALIBRATION, CliTest, main, sha256_of, summary_of


def digest_of(folder):
    """SHA-256 over the files' names and SHA-256 sums in name order, summary.json left out; each is a
    line of its own."""
    names = sorted(name for name in os.listdir(folder) if name != "summary.json")
    return hashlib.sha256("".join(f"{name}\n{sha256_of(folder / name)}\n" for name in names).encode()
                          ).hexdigest()


def sqnr_db(weights, restored):
    signal = sum(w * w for w in weights)
    noise = sum((w - r) * (w - r) for w, r in zip(weights, restored))
    return 10.0 * math.log10(signal / noise)


def e4m3_values():
    """The 256 values of FP8 E4M3, NaN as nan."""
    def value(code):
        sign, exponent, mantissa = (-1) ** (code >> 7), (code >> 3) & 15, code & 7
        if exponent == 15 and mantissa == 7:
            return math.nan
        return sign * (mantissa * 2.0 ** -9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10))
    return [value(code) for code in range(256)]


class Summary(CliTest):
    def make(self, *options, ranks=None):
        out = self.folder / "out"
        printed = self.succeed_json("quantize", "--model", NANO_LLAMA, "--out", out, "--overwrite",
                                    *options, *SMALL_CALIBRATION, ranks=ranks)
        return out, printed

    def test_digest(self):
        for options in (("--format", "fp8"), ("--format", "nvfp4", "--max-shard-size", 300000)):
            for ranks in (None, 3):
                with self.subTest(options=options, ranks=ranks):
                    out, printed = self.make(*options, ranks=ranks)
                    self.assertEqual(summary_of(out)["digest"], digest_of(out))
                    self.assertEqual(printed["outputs"][0]["digest"], digest_of(out))

    def test_content(self):
        out, printed = self.make("--format", "fp8", "--kv-cache", "fp8", ranks=2)
        summary = summary_of(out)
        output = printed["outputs"][0]
        self.assertEqual({key: summary[key] for key in output}, output)
        self.assertEqual(output["dir"], str(out))
        tensors = read_safetensors(out / "model.safetensors")
        self.assertEqual(output["bytes"], sum(len(tensor.data) for tensor in tensors.values()))
        source = read_safetensors(NANO_LLAMA / "model.safetensors")
        self.assert_close(output["bits_per_weight"],
                          8 * output["bytes"] / sum(len(t.data) / 2 for t in source.values()), 1e-9)
        self.assertEqual(summary["tensors"], {"quantized": 28, "copied": 11, "extra": [],
                                              "dropped": []})
        self.assertEqual(summary["phases"], printed["phases"])
        self.assertEqual(set(summary["phases"]), {"load", "forward", "pack", "save", "write", "finish"})
        for phase in summary["phases"].values():
            self.assertGreaterEqual(phase["seconds"], 0.0)
        self.assertEqual(summary["phases"]["load"]["bytes"],
                         sum(len(tensor.data) for tensor in source.values()), "read once")
        self.assertEqual(summary["phases"]["write"]["bytes"], output["bytes"], "written once")
        self.assertGreater(summary["peak_memory"]["host_bytes"], 10_000_000)
        self.assertEqual(summary["peak_memory"], printed["peak_memory"])
        configuration = summary["configuration"]
        self.assertEqual((configuration["format"], configuration["kv-cache"],
                          configuration["calib-samples"], configuration["threads"]),
                         ("fp8", "fp8", 16, "auto"))

    def test_linears(self):
        out, _ = self.make("--format", "fp8", ranks=2)
        records = summary_of(out)["linears"]
        self.assertEqual(len(records), 28)
        codes = e4m3_values()
        source = read_safetensors(NANO_LLAMA / "model.safetensors")
        tensors = read_safetensors(out / "model.safetensors")
        for name, record in records.items():
            self.assertEqual(record["format"], "fp8")
            weights = floats_of(source[f"{name}.weight"])
            scale = floats_of(tensors[f"{name}.weight_scale"])[0]
            self.assert_close(record["weight_amax"], max(map(abs, weights)), 1e-6, name)
            self.assert_close(record["input_amax"],
                              floats_of(tensors[f"{name}.input_scale"])[0] * 448.0, 1e-5, name)
            if ".layers.0." in name:
                restored = [codes[code] * scale for code in tensors[f"{name}.weight"].data]
                self.assertAlmostEqual(record["sqnr_db"], sqnr_db(weights, restored), 2, name)

    def test_sqnr_orders_the_formats(self):
        """The mean over the linears: 8 bits integer, 8 bits floating, 4 bits."""
        means = []
        for name in ("int8_wo", "fp8", "nvfp4"):
            out, _ = self.make("--format", name)
            values = [record["sqnr_db"] for record in summary_of(out)["linears"].values()]
            means.append(sum(values) / len(values))
        self.assertEqual(means, sorted(means, reverse=True))
        self.assertGreater(means[-1], 10.0)


if __name__ == "__main__":
    main()
