"""Checkpoints in FP8 blocks and in MXFP4: decoded exactly, quantized anew, accounted for."""
import array

from checkpoints import Tensor, floats_of, read_checkpoint_tensors, read_safetensors
from halftone_cli import main, read_json, summary_of
from models import ARCHS, TINY_STAGES, ModelTest

FP8_SUFFIX = "_scale_inv"


def e4m3_values():
    """By code; NaN for 0x7f and 0xff."""
    values = []
    for code in range(256):
        exponent, mantissa = code >> 3 & 15, code & 7
        size = (8 + mantissa) * 2.0 ** (exponent - 10) if exponent else mantissa * 2.0 ** -9
        values.append(float("nan") if code & 127 == 127 else (-size if code & 128 else size))
    return values


E4M3 = e4m3_values()
E2M1 = [sign * size for sign in (1, -1) for size in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)]


def decode_fp8_blocks(weight, scales):
    """w = code * scale of its 128 x 128 block; blocks at the edges are shorter."""
    rows, columns = weight.shape
    scale, across = floats_of(scales), scales.shape[1]
    return [E4M3[weight.data[r * columns + c]] * scale[r // 128 * across + c // 128]
            for r in range(rows) for c in range(columns)]


def decode_mxfp4(blocks, scales):
    """[expert][row][column]: low nibbles first, 32 values to an exponent."""
    experts, rows, groups, _ = blocks.shape
    values = []
    for index in range(experts * rows * groups):
        factor = 2.0 ** (scales.data[index] - 127)
        for byte in blocks.data[16 * index:16 * index + 16]:
            values += [E2M1[byte & 15] * factor, E2M1[byte >> 4] * factor]
    return values, [experts, rows, groups * 32]


def decode_stacked_nvfp4(tensors, name):
    """The same order from [expert, column / 2, row] codes and [expert, column / 16, row] scales."""
    codes, scales = tensors[name], tensors[f"{name}_weight_scale"]
    second = floats_of(tensors[f"{name}_weight_scale_2"])[0]
    experts, pairs, rows = codes.shape
    values = []
    for e in range(experts):
        for r in range(rows):
            for c in range(2 * pairs):
                byte = codes.data[(e * pairs + c // 2) * rows + r]
                scale = E4M3[scales.data[(e * (pairs // 8) + c // 16) * rows + r]]
                values.append(E2M1[byte >> 4 if c % 2 else byte & 15] * scale * second)
    return values, [experts, rows, 2 * pairs]


def round_to_bf16(values):
    """To nearest, ties to even."""
    words = array.array("I", array.array("f", values).tobytes())
    rounded = array.array("H", ((word + 0x7FFF + (word >> 16 & 1)) >> 16 for word in words))
    return rounded.tobytes()


class Sources(ModelTest):
    def source(self, name):
        return read_safetensors(ARCHS / name / "model.safetensors")

    def mlp_only(self):
        """A recipe that leaves attention as it is."""
        return self.write("mlp.yaml", """\
imports:
  all_off: units/all_off
  default_disabled: units/default_disabled
metadata: {recipe_type: ptq, description: MLPs in FP8}
quantize:
  algorithm: max
  quant_cfg:
    - $import: all_off
    - quantizer_name: '*mlp*weight_quantizer'
      cfg: {num_bits: e4m3}
    - quantizer_name: '*mlp*input_quantizer'
      cfg: {num_bits: e4m3}
    - $import: default_disabled
""")

    def check_accounting(self, out, source, endings):
        """Companions of codes are gone, each of them said to be."""
        companions = sorted(name for name in source if name.endswith(endings))
        self.assertTrue(companions)
        summary = summary_of(out)
        self.assertEqual(sorted(entry["tensor"] for entry in summary["tensors"]["dropped"]),
                         companions)
        for entry in summary["tensors"]["dropped"]:
            self.assertIn("dequantized", entry["reason"])
        written = read_checkpoint_tensors(out)
        self.assertFalse([name for name in written
                          if name.endswith((*endings, "_blocks"))])
        quantization = read_json(out / "config.json")["quantization_config"]
        self.assertEqual(quantization["quant_method"], "modelopt")
        self.assertNotIn("weight_block_size", quantization)
        return written

    def test_fp8_blocks(self):
        source = self.source("deepseek-v3-fp8")
        out = self.quantize("out", "--recipe", self.mlp_only(), "--calib", self.ids(),
                            model=ARCHS / "deepseek-v3-fp8")
        written = self.check_accounting(out, source, (FP8_SUFFIX,))
        linears = [name for name in source
                   if source[name].dtype == "F8_E4M3" and ".self_attn." in name]
        self.assertGreater(len(linears), 8)
        for name in linears:
            values = decode_fp8_blocks(source[name], source[f"{name}_scale_inv"])
            self.assertEqual(written[name], Tensor("BF16", source[name].shape, round_to_bf16(values)),
                             name)
        quantized = [name for name in written if written[name].dtype == "F8_E4M3"]
        self.assertTrue(quantized)
        self.assertTrue(all(".mlp." in name for name in quantized))

    def test_mxfp4_that_stays_wide(self):
        """Attention alone is quantized: experts come in BF16, which holds MXFP4 exactly."""
        recipe = self.mlp_only()
        recipe.write_text(recipe.read_text().replace("*mlp*", "*self_attn*"))
        source = self.source("gpt-oss")
        out = self.quantize("out", "--recipe", recipe, "--calib", self.ids(),
                            model=ARCHS / "gpt-oss")
        written = self.check_accounting(out, source, ("_scales",))
        for name in [name for name in source if name.endswith("_blocks")]:
            base = name.removesuffix("_blocks")
            values, shape = decode_mxfp4(source[name], source[f"{base}_scales"])
            self.check_wide_experts(written, base, values, shape)

    def check_wide_experts(self, written, base, values, shape):
        experts, rows, columns = shape
        self.assertIn(base, written)
        self.assertEqual((written[base].dtype, written[base].shape),
                         ("BF16", [experts, columns, rows]))
        found = floats_of(written[base])
        for e in range(experts):
            for r in range(rows):
                begin = (e * rows + r) * columns
                self.assertEqual(list(found[e * rows * columns + r:(e + 1) * rows * columns:rows]),
                                 values[begin:begin + columns], (base, e, r))

    def test_mxfp4_to_nvfp4_is_exact(self):
        source = self.source("gpt-oss")
        out = self.quantize("out", "--format", "nvfp4", "--calib", self.ids(),
                            model=ARCHS / "gpt-oss")
        written = self.check_accounting(out, source, ("_scales",))
        stacks = [name.removesuffix("_blocks") for name in source if name.endswith("_blocks")]
        self.assertEqual(len(stacks), 4)
        for base in stacks:
            expected = decode_mxfp4(source[f"{base}_blocks"], source[f"{base}_scales"])
            self.assertEqual(decode_stacked_nvfp4(written, base), expected, base)

    def test_ranks_and_parts(self):
        for name, what in (("deepseek-v3-fp8", "fp8"), ("gpt-oss", "nvfp4"), ("gpt-oss", "int8_wo")):
            with self.subTest(name=name, what=what):
                options = ("--format", what, "--calib", self.ids(), "--overwrite")
                sums = {summary_of(self.quantize("out", *options, *extra, model=ARCHS / name,
                                                 ranks=ranks))["digest"]
                        for ranks, extra in ((None, ()), (2, ()), (2, TINY_STAGES))}
                self.assertEqual(len(sums), 1)


if __name__ == "__main__":
    main()
