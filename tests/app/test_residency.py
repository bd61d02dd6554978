"""What the ranks hold of the weights never changes a byte, and what cannot be held is refused."""
import struct

from checkpoints import Checkpoint, Tensor, read_checkpoint_tensors
from halftone_cli import NANO_LLAMA, USAGE, CliTest, file_sums, main, summary_of

NANO_DEEPSEEK = NANO_LLAMA.parent / "nano-deepseek-v3"
ON_COMPRESSED = ("--low-memory", "--calibrate-on", "compressed")


def e4m3(code):
    """The value of an FP8 code."""
    sign, exponent, mantissa = -1.0 if code & 128 else 1.0, code >> 3 & 15, code & 7
    return sign * (mantissa * 2.0 ** -9 if exponent == 0
                   else (8 + mantissa) * 2.0 ** (exponent - 10))


def bf16_bits(value):
    """Rounded to float32, then to the nearest BF16, ties to even."""
    word = struct.unpack("<I", struct.pack("<f", value))[0]
    return (word + 0x7FFF + (word >> 16 & 1)) >> 16


def dequantized(codes, scale):
    """A BF16 tensor from FP8 codes with one scale."""
    words = [bf16_bits(e4m3(code) * scale) if code & 127 != 127 else 0 for code in range(256)]
    data = bytearray(2 * len(codes.data))
    data[0::2] = codes.data.translate(bytes(word & 255 for word in words))
    data[1::2] = codes.data.translate(bytes(word >> 8 for word in words))
    return Tensor("BF16", codes.shape, bytes(data))


class Residency(CliTest):
    def test_the_bytes_do_not_depend_on_residency_or_ranks(self):
        for model, name in ((NANO_LLAMA, "nvfp4"), (NANO_DEEPSEEK, "fp8")):
            def make(out, *options, ranks=None):
                return self.quantize(f"{name}-{out}", "--format", name, *options, model=model,
                                     ranks=ranks)
            stream = make("stream", "--residency", "stream")
            expected = file_sums(stream)
            self.assertEqual(summary_of(stream)["weights_held_bytes"], 0)
            held = {}
            for ranks in (1, 2, 4):
                for residency in ("resident", "compressed"):
                    with self.subTest(name, ranks=ranks, residency=residency):
                        out = make(f"{residency}{ranks}", "--residency", residency, ranks=ranks)
                        self.assertEqual(file_sums(out), expected)
                        summary = summary_of(out)
                        self.assertEqual(summary["residency"], residency)
                        held[residency, ranks] = summary["weights_held_bytes"]
            for residency in ("resident", "compressed"):
                for ranks in (2, 4):
                    self.assert_close(held[residency, ranks] * ranks, held[residency, 1], 0.01)
            self.assertLess(held["compressed", 1], held["resident", 1])
            once = make("once", *ON_COMPRESSED)
            self.assertEqual(file_sums(make("ranks3", *ON_COMPRESSED, ranks=3)), file_sums(once))
            self.assert_only_input_scales_move(stream, once)

    def assert_only_input_scales_move(self, before, after):
        before, after = read_checkpoint_tensors(before), read_checkpoint_tensors(after)
        moved = {name for name, tensor in before.items() if tensor.data != after[name].data}
        self.assertTrue(moved)
        self.assertEqual({name for name in moved if not name.endswith(".input_scale")}, set())

    def test_groups_of_experts(self):
        options = ("--format", "nvfp4", "--max-stage-bytes", 50000)
        whole = file_sums(self.quantize("whole", "--format", "nvfp4", model=NANO_DEEPSEEK))
        for residency in ("resident", "compressed"):
            out = self.quantize(residency, *options, "--residency", residency,
                                model=NANO_DEEPSEEK, ranks=2)
            self.assertEqual(file_sums(out), whole, residency)

    def test_calibration_on_compressed_weights_sees_those_that_are_served(self):
        """The same as calibrating a model whose weights are the dequantized ones."""
        quantized = self.quantize("compressed", "--format", "fp8", *ON_COMPRESSED)
        stored = read_checkpoint_tensors(quantized)
        model = Checkpoint()
        for name, tensor in stored.items():
            if tensor.dtype == "F8_E4M3":
                scale = struct.unpack("<f", stored[f"{name}_scale"].data)[0]
                model.tensors[name] = dequantized(tensor, scale)
        served = self.quantize("served", "--format", "fp8", model=model.save(self.folder / "model"))
        served = read_checkpoint_tensors(served)
        for name, tensor in stored.items():
            if name.endswith(".input_scale"):
                self.assertEqual(tensor.data, served[name].data, name)

    def test_perplexity_is_the_same(self):
        options = ("--calib-samples", 4, "--calib-length", 48, "--batch-size", 2,
                   "--data-samples", 4, "--data-length", 64)
        def evaluate(model, *more, ranks=None):
            return self.succeed_json("evaluate", "--model", model, *options, *more, ranks=ranks)
        stream = evaluate(NANO_LLAMA, "--format", "nvfp4", "--residency", "stream")
        for residency in ("resident", "compressed"):
            for ranks in (None, 3):
                result = evaluate(NANO_LLAMA, "--format", "nvfp4", "--residency", residency,
                                  ranks=ranks)
                self.assertEqual(result["tasks"], stream["tasks"], (residency, ranks))
                self.assertEqual(result["residency"], residency)
                self.assertGreater(result["weights_held_bytes"], 0)
        auto = evaluate(NANO_LLAMA, "--format", "nvfp4")
        self.assertEqual((auto["residency"], auto["tasks"]), ("resident", stream["tasks"]))
        # What --calibrate-on does to an evaluation is what it does to a checkpoint.
        exported = self.quantize("exported", "--format", "nvfp4", *ON_COMPRESSED, *options[:6])
        files = evaluate(exported)
        self.assertEqual(files["residency"], "stream")
        self.assertEqual(evaluate(exported, "--residency", "resident", ranks=2)["tasks"],
                         files["tasks"])
        self.assertEqual(evaluate(NANO_LLAMA, "--format", "nvfp4", *ON_COMPRESSED)["tasks"],
                         files["tasks"])

    def test_refusals(self):
        """Each says why, and what to choose instead; nothing is left behind."""
        def refuse(fragments, command, *options):
            given = ("--out", self.folder / "out") if command == "quantize" else ()
            self.refuse(USAGE, fragments, command, "--model", NANO_LLAMA, *given, *options)
            self.assertFalse((self.folder / "out").exists())
        held = ("--residency", "compressed")
        stream = "use --residency stream"
        refuse(["int4_awq", "max calibration", stream], "quantize", "--format", "int4_awq", *held)
        refuse(["int8_wo", "FP8 and NVFP4", stream], "quantize", "--format", "int8_wo",
               "--low-memory")
        refuse(["'fp8' and 'nvfp4'", stream], "quantize", "--format", "fp8,nvfp4", *held)
        refuse(["'nvfp4_gptq'", stream], "quantize", "--format", "nvfp4_gptq", *held)
        refuse(["--low-memory", "--residency resident"], "quantize", "--format", "fp8",
               "--low-memory", "--residency", "resident")
        refuse(["--calibrate-on", "--low-memory"], "quantize", "--format", "fp8",
               "--calibrate-on", "compressed")
        refuse(["--format", "--residency resident"], "evaluate", *held)
        refuse(["int4_awq", stream], "evaluate", "--format", "int4_awq", *held)
        exported = self.quantize("exported", "--format", "fp8")
        self.refuse(USAGE, ["quantized already", "--residency resident"], "evaluate",
                    "--model", exported, *held)
        self.refuse(USAGE, ["layer", "--max-stage-bytes", "--calibrate-on source"], "quantize",
                    "--model", NANO_DEEPSEEK, "--format", "fp8", "--out", self.folder / "out",
                    "--max-stage-bytes", 50000, *ON_COMPRESSED)

    def test_export(self):
        """What was calibrated on compressed weights is exported with the same bytes."""
        out = self.quantize("a", "--format", "fp8", *ON_COMPRESSED)
        for residency in ("stream", "resident", "compressed"):
            copy = self.folder / residency
            self.succeed("export", "--store", self.folder / "a.workspace" / "calibration.h5",
                         "--model", NANO_LLAMA, "--format", "fp8", "--out", copy,
                         "--residency", residency)
            self.assert_same_checkpoint(copy, out)


if __name__ == "__main__":
    main()
