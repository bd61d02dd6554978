"""Every format from outside: exported, read back, made on several ranks, with others and from a store."""
import json

from checkpoints import Checkpoint, with_outliers
from halftone_cli import INPUT, NANO_LLAMA, SMALL_CALIBRATION, USAGE, CliTest, main, run

FEW = ("--data-samples", 12, "--data-length", 128, "--dtype", "float32")
# Llama has no experts; these have nothing to quantize in it.
FOR_EXPERTS = {"nvfp4_experts_only"}
# Searches on the quantized layers before: a run of their own, and no search results in the store.
PROPAGATING = {"nvfp4_gptq", "int4_gptq"}


def listed(kind):
    return [entry["name"] for entry in json.loads(run("formats", "--json").stdout)[kind]]


FORMATS = [name for name in listed("formats") if name not in FOR_EXPERTS]
SHARING = [name for name in FORMATS if name not in PROPAGATING]


class EveryFormat(CliTest):
    def test_exported_equals_fake_quantized(self):
        for name in FORMATS:
            with self.subTest(format=name):
                options = ("--format", name, "--dtype", "float32")
                fake = self.perplexity(NANO_LLAMA, *options, *SMALL_CALIBRATION, *FEW[:4])
                out = self.quantize(name, *options)
                self.assert_close(self.perplexity(out, *FEW), fake, 2e-3)

    def test_together_on_ranks_alone_and_from_the_store(self):
        """Each is the same byte for byte; every third one is also made alone."""
        # NF4's layout holds no cache, so the cache's formats have a test of their own.
        together = self.quantize("together", "--format", ",".join(SHARING))
        ranks = self.quantize("ranks", "--format", ",".join(SHARING), ranks=2)
        store = self.folder / "together.workspace" / "calibration.h5"
        again = self.folder / "again"
        self.succeed("export", "--store", store, "--model", NANO_LLAMA, "--format",
                     ",".join(SHARING), "--out", again, "--device", "cpu")
        for index, name in enumerate(SHARING):
            with self.subTest(format=name):
                self.assert_same_checkpoint(ranks / name, together / name)
                self.assert_same_checkpoint(again / name, together / name)
                if index % 3 == 0:
                    alone = self.quantize(f"alone-{name}", "--format", name)
                    self.assert_same_checkpoint(together / name, alone)

    def test_formats_that_propagate(self):
        for name in sorted(PROPAGATING):
            with self.subTest(format=name):
                alone = self.quantize(name, "--format", name)
                self.assert_same_checkpoint(self.quantize(f"{name}-3", "--format", name, ranks=3),
                                            alone)
                self.refuse(USAGE, ["propagate: quantized", name], "quantize", "--model",
                            NANO_LLAMA, "--format", f"fp8,{name}", "--out", self.folder / "both")

    def test_caches(self):
        for name in listed("kv_cache"):
            with self.subTest(cache=name):
                options = ("--format", "fp8", "--kv-cache", name, "--dtype", "float32")
                fake = self.perplexity(NANO_LLAMA, *options, *SMALL_CALIBRATION, *FEW[:4])
                out = self.quantize(name, *options)
                self.assert_same_checkpoint(self.quantize(f"{name}-2", *options, ranks=2), out)
                if name != "nvfp4_rotate":  # its files do not say that keys are rotated
                    self.assert_close(self.perplexity(out, *FEW), fake, 2e-3)
                again = self.folder / f"{name}-again"
                self.succeed("export", "--store", self.folder / f"{name}.workspace/calibration.h5",
                             "--model", NANO_LLAMA, *options[:4], "--out", again, "--device", "cpu")
                self.assert_same_checkpoint(again, out)

    def test_the_store_serves_formats_that_it_was_not_made_for(self):
        self.quantize("fp8", "--format", "fp8")
        store = self.folder / "fp8.workspace" / "calibration.h5"
        for name in ("int8_sq", "nvfp4", "w4a8_nvfp4_fp8", "nvfp4_mse"):
            out = self.folder / f"export-{name}"
            self.succeed("export", "--store", store, "--model", NANO_LLAMA, "--format", name,
                         "--kv-cache", "nvfp4_affine", "--out", out, "--device", "cpu")
            expected = self.quantize(f"made-{name}", "--format", name, "--kv-cache", "nvfp4_affine")
            self.assert_same_checkpoint(out, expected)

    def test_the_store_lacks_searches_that_were_not_made(self):
        self.quantize("fp8", "--format", "fp8")
        self.refuse(INPUT, ["awq_lite", "halftone quantize"], "export", "--store",
                    self.folder / "fp8.workspace" / "calibration.h5", "--model", NANO_LLAMA,
                    "--format", "int4_awq", "--out", self.folder / "awq", "--device", "cpu")
        self.assertFalse((self.folder / "awq").exists())


class Outliers(CliTest):
    def test_smoothing_pays(self):
        model = with_outliers(Checkpoint()).save(self.folder / "outliers")
        values = {name: self.perplexity(model, "--format", name, *SMALL_CALIBRATION, *FEW)
                  for name in ("int8", "int8_sq", "int4_wo", "int4_awq", "nvfp4", "nvfp4_awq",
                               "nvfp4_svdquant")}
        self.assertLess(2 * values["int8_sq"], values["int8"])
        self.assertLess(values["int4_awq"], values["int4_wo"])
        self.assertLess(values["nvfp4_awq"], values["nvfp4"])
        self.assertLess(values["nvfp4_svdquant"], values["nvfp4_awq"])

    def test_they_leave_the_function_as_it_is(self):
        model = with_outliers(Checkpoint()).save(self.folder / "outliers")
        self.assert_close(self.perplexity(model, *FEW), self.perplexity(NANO_LLAMA, *FEW), 1e-4)


if __name__ == "__main__":
    main()
