"""Perplexity of the original, fake-quantized and exported model against transformers and each other."""
from pathlib import Path

from halftone_cli import NANO_LLAMA, SMALL_CALIBRATION, CliTest, main, read_json
from test_golden import CALIBRATION

REFERENCE = read_json(Path(__file__).parent / "reference_perplexity.json")["nano-llama"]

# For comparisons of halftone with itself.
FEW = ("--data-samples", 24, "--data-length", 256)


class AgainstTheReference(CliTest):
    def evaluate(self, *options, samples=REFERENCE["samples"]):
        return self.succeed_json("evaluate", "--model", NANO_LLAMA, "--tasks", "perplexity",
                                 "--data-samples", samples, *options)["tasks"]["perplexity"]

    def test_fp32(self):
        """On the whole embedded text: 0 samples are all."""
        found = self.evaluate("--dtype", "float32", samples=0)
        self.assert_close(found["value"], REFERENCE["whole_text"]["value"], 1e-4)
        self.assertEqual(found["tokens"], REFERENCE["whole_text"]["tokens"])

    def test_bf16_is_the_dtype_of_this_checkpoint(self):
        found = self.evaluate()
        self.assert_close(found["value"], REFERENCE["bfloat16"]["value"], 1e-2)

    def test_fp8(self):
        """Quantization may cost what it costs the reference, and must cost something."""
        found = self.evaluate("--dtype", "float32", "--format", "fp8", *CALIBRATION)["value"]
        gap = REFERENCE["fp8"]["value"] / REFERENCE["float32"]["value"] - 1
        found_gap = found / REFERENCE["float32"]["value"] - 1
        self.assertGreater(found_gap, gap / 2)
        self.assertLess(found_gap, gap * 1.5)


class AgainstItself(CliTest):
    def check_read_back(self, *options):
        """The exported checkpoint computes what fake quantization in memory does."""
        for dtype in ("float32", "bfloat16"):
            fake = self.perplexity(NANO_LLAMA, *options, *SMALL_CALIBRATION, *FEW, "--dtype", dtype)
            # Calibrated with the same compute type, so that the scales are the same.
            out = self.quantize(f"out-{dtype}", *options, "--dtype", dtype)
            self.assert_close(self.perplexity(out, *FEW, "--dtype", dtype), fake, 1e-3, dtype)

    def test_fp8(self):
        self.check_read_back("--format", "fp8")

    def test_nvfp4(self):
        self.check_read_back("--format", "nvfp4")

    def test_int8_weight_only(self):
        self.check_read_back("--format", "int8_wo")

    def test_fp8_cache(self):
        self.check_read_back("--format", "fp8", "--kv-cache", "fp8")

    def test_fp8_cast_cache(self):
        self.check_read_back("--format", "nvfp4", "--kv-cache", "fp8_cast")

    def test_the_cache_format_counts(self):
        """Else the two tests above would say nothing of it."""
        values = {cache: self.perplexity(NANO_LLAMA, "--format", "fp8", "--kv-cache", cache,
                                         *SMALL_CALIBRATION, *FEW, "--dtype", "float32")
                  for cache in ("none", "fp8", "fp8_cast")}
        self.assertEqual(len(set(values.values())), 3, values)

    def test_formats_differ_as_they_should(self):
        original = self.perplexity(NANO_LLAMA, *FEW)
        values = {name: self.perplexity(NANO_LLAMA, "--format", name, *SMALL_CALIBRATION, *FEW)
                  for name in ("int8_wo", "fp8", "nvfp4")}
        self.assertLess(abs(values["int8_wo"] / original - 1), 0.01)
        self.assertLess(values["fp8"], values["nvfp4"])
        self.assertLess(values["nvfp4"], 2 * original)

    def test_ranks(self):
        for options in ((), ("--format", "fp8", *SMALL_CALIBRATION)):
            one, two = (self.perplexity(NANO_LLAMA, *options, *FEW, ranks=ranks)
                        for ranks in (1, 2))
            self.assert_close(two, one, 1e-4, options)


if __name__ == "__main__":
    main()
