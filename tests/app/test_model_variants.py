"""Checkpoints in other shapes and types than the plain one: same tensors, same numbers."""
import random
from pathlib import Path

from checkpoints import (VARIANTS, Checkpoint, as_f16, as_f32, read_checkpoint_tensors,
                         with_llama3_rope)
from halftone_cli import CliTest, file_sums, main, read_json, summary_of

REFERENCE = read_json(Path(__file__).parent / "reference_perplexity.json")
SAMPLES = 32


class Variants(CliTest):
    def check_variant(self, name, checkpoint=None):
        """Perplexity as transformers has it, and a quantized checkpoint that reads back."""
        checkpoint = checkpoint or VARIANTS[name](Checkpoint())
        model = checkpoint.save(self.folder / f"model{random.getrandbits(32)}")
        samples = ("--data-samples", REFERENCE[name]["samples"])
        for dtype, tolerance in (("float32", 1e-4), ("bfloat16", 1e-2)):
            self.assert_close(self.perplexity(model, *samples, "--dtype", dtype),
                              REFERENCE[name][dtype]["value"], tolerance, f"{name} {dtype}")
        out = self.quantize(f"{model.name}-fp8", "--format", "fp8", model=model)
        self.assert_close(self.perplexity(out, *samples), REFERENCE[name]["float32"]["value"], 0.1)
        return out

    def test_attention_bias(self):
        out = self.check_variant("attention_bias")
        biases = [name for name in read_checkpoint_tensors(out) if name.endswith(".bias")]
        self.assertEqual(len(biases), 16)

    def test_tied_head(self):
        out = self.check_variant("tied")
        tensors = read_checkpoint_tensors(out)
        self.assertIn("model.embed_tokens.weight", tensors)
        self.assertNotIn("lm_head.weight", tensors)

    def test_llama3_rope_in_both_spellings(self):
        for spelling in ("rope_parameters", "rope_scaling"):
            with self.subTest(spelling):
                self.check_variant("llama3_rope", with_llama3_rope(Checkpoint(), spelling))

    def test_llama3_rope_counts(self):
        self.assertNotEqual(REFERENCE["llama3_rope"]["float32"], REFERENCE["nano-llama"]["float32"])

    def test_shards(self):
        model = Checkpoint().save(self.folder / "sharded", shards=3)
        self.assertEqual(file_sums(self.quantize("from_shards", "--format", "nvfp4", model=model)),
                         file_sums(self.quantize("from_one", "--format", "nvfp4")))

    def test_float32_weights(self):
        """BF16 values as FP32: what is quantized keeps its value, what is copied its type."""
        checkpoint = Checkpoint()
        checkpoint.config["dtype"] = "float32"
        checkpoint.tensors = {name: as_f32(tensor) for name, tensor in checkpoint.tensors.items()}
        out = self.check_converted(checkpoint)
        reference = read_checkpoint_tensors(self.quantize("bf16", "--format", "fp8"))
        tensors = read_checkpoint_tensors(out)
        for name in tensors:
            if name.endswith("_proj.weight"):
                # Divided by the scale in the model's own type: ties fall to a neighbouring code.
                self.assertEqual(tensors[name].dtype, "F8_E4M3")
                differences = {abs(a - b) for a, b in zip(tensors[name].data, reference[name].data)}
                self.assertLessEqual(differences, {0, 1}, name)
            elif name.endswith(".weight_scale"):
                self.assertEqual(tensors[name], reference[name], name)
            elif not name.endswith("_scale"):
                self.assertEqual(tensors[name], as_f32(reference[name]), name)

    def test_float16_weights(self):
        checkpoint = Checkpoint()
        checkpoint.config["dtype"] = "float16"
        checkpoint.tensors = {name: as_f16(tensor) for name, tensor in checkpoint.tensors.items()}
        out = self.check_converted(checkpoint)
        self.assertEqual(read_checkpoint_tensors(out)["lm_head.weight"].dtype, "F16")

    def test_older_dtype_key(self):
        checkpoint = Checkpoint()
        checkpoint.config["torch_dtype"] = checkpoint.config.pop("dtype")
        self.assertEqual(
            read_checkpoint_tensors(self.quantize("old", "--format", "fp8",
                                                  model=checkpoint.save(self.folder / "m"))),
            read_checkpoint_tensors(self.quantize("new", "--format", "fp8")))

    def check_converted(self, checkpoint):
        model = checkpoint.save(self.folder / "converted")
        value = self.perplexity(model, "--data-samples", SAMPLES, "--dtype", "float32")
        original = self.perplexity(checkpoint.source, "--data-samples", SAMPLES,
                                   "--dtype", "float32")
        self.assert_close(value, original, 1e-4)
        out = self.quantize("fp8", "--format", "fp8", model=model)
        self.assertEqual(summary_of(out)["fallbacks"], 0)
        self.assert_close(self.perplexity(out, "--data-samples", SAMPLES), original, 0.1)
        return out


if __name__ == "__main__":
    main()
