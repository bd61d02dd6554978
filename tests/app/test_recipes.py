"""Recipes of one's own: overrides by pattern, mixed precision, and mistakes in them."""
from checkpoints import read_checkpoint_tensors
from halftone_cli import NANO_LLAMA, USAGE, CliTest, main, read_json, summary_of

HEAD = "imports: {all_off: units/all_off, default_disabled: units/default_disabled, " \
       "fp8: units/fp8, nvfp4: units/nvfp4}\nquantize:\n  algorithm: max\n  quant_cfg:\n" \
       "    - $import: all_off\n"
TAIL = "    - $import: default_disabled\n"


def rule(pattern, unit):
    return f"    - {{quantizer_name: '{pattern}', cfg: {{$import: {unit}}}}}\n"


def both(modules, unit):
    return rule(f"{modules}weight_quantizer", unit) + rule(f"{modules}input_quantizer", unit)


class Recipes(CliTest):
    def quantize_by(self, rules):
        recipe = self.write("mine.yaml", HEAD + rules + TAIL)
        return self.quantize("out", "--recipe", recipe), recipe

    def quantized_modules(self, out):
        return sorted(name.removesuffix(".weight_scale")
                      for name in read_checkpoint_tensors(out) if name.endswith(".weight_scale"))

    def check_reads_back(self, out, recipe):
        few = ("--data-samples", 16, "--data-length", 128, "--dtype", "float32")
        fake = self.perplexity(NANO_LLAMA, "--recipe", recipe, "--calib-samples", 16,
                               "--calib-length", 48, "--batch-size", 4, *few)
        # Scales were calibrated in BF16 there and in FP32 here.
        self.assert_close(self.perplexity(out, *few), fake, 1e-2)

    def test_only_the_mlps(self):
        out, recipe = self.quantize_by(both("*mlp*", "nvfp4"))
        self.assertEqual(self.quantized_modules(out),
                         sorted(f"model.layers.{layer}.mlp.{name}_proj"
                                for layer in range(4) for name in ("down", "gate", "up")))
        # The shortest patterns that hit no quantized module.
        expected = ["lm_head", "model.embed_tokens",
                    *(f"model.layers.{layer}.self_attn*" for layer in range(4))]
        quantization = read_json(out / "hf_quant_config.json")["quantization"]
        self.assertEqual(quantization["quant_algo"], "NVFP4")
        self.assertEqual(quantization["exclude_modules"], expected)
        self.assertEqual(read_json(out / "config.json")["quantization_config"]["ignore"], expected)
        self.check_reads_back(out, recipe)

    def test_one_layer_left_out(self):
        out, _ = self.quantize_by(
            both("*", "fp8") + "    - {quantizer_name: 'model.layers.1.*', enable: false}\n")
        excluded = read_json(out / "hf_quant_config.json")["quantization"]["exclude_modules"]
        self.assertEqual(excluded, ["lm_head", "model.embed_tokens", "model.layers.1*"])
        self.assertEqual(len(self.quantized_modules(out)), 21)

    def test_mixed_precision(self):
        out, recipe = self.quantize_by(both("*self_attn*", "fp8") + both("*mlp*", "nvfp4"))
        quantization = read_json(out / "hf_quant_config.json")["quantization"]
        self.assertEqual(quantization["quant_algo"], "MIXED_PRECISION")
        expected = {}
        for layer in range(4):
            for name in "qkvo":
                expected[f"model.layers.{layer}.self_attn.{name}_proj"] = {"quant_algo": "FP8"}
            for name in ("gate", "up", "down"):
                expected[f"model.layers.{layer}.mlp.{name}_proj"] = {"quant_algo": "NVFP4",
                                                                     "group_size": 16}
        self.assertEqual(quantization["quantized_layers"], expected)
        formats = {name: record["format"] for name, record in summary_of(out)["linears"].items()}
        self.assertEqual(formats, {name: "nvfp4" if ".mlp." in name else "fp8" for name in expected})
        self.check_reads_back(out, recipe)

    def test_preset_as_a_recipe(self):
        """The same rules from one's own file give the same bytes."""
        out, _ = self.quantize_by(both("*", "fp8"))
        self.assert_same_checkpoint(out, self.quantize("preset", "--format", "fp8"))

    def refuse_recipe(self, fragments, text, ranks=None):
        recipe = self.write("mine.yaml", text)
        self.refuse(USAGE, fragments, "quantize", "--model", NANO_LLAMA, "--recipe", recipe,
                    "--out", self.folder / "out", ranks=ranks)
        self.assertFalse((self.folder / "out").exists())

    def test_everything_disabled(self):
        for ranks in (None, 2):
            self.refuse_recipe(["'mine'", "no linear"], HEAD + TAIL, ranks=ranks)
        self.refuse_recipe(["'mine'", "no linear"], HEAD + both("*nothing_like_it*", "fp8") + TAIL)

    def test_mistakes(self):
        for text, fragments in (
                (HEAD + "    - {quantizer_nam: '*', enable: false}\n",
                 ["line 6", "quantizer_nam", "did you mean 'quantizer_name'?"]),
                (HEAD + "    - {quantizer_name: '*', cfg: {num_bit: e4m3}}\n", ["line 6", "num_bit"]),
                (HEAD + "    - {quantizer_name: '*'}\n", ["line 6", "cfg or enable"]),
                (HEAD + rule("*", "fp9"), ["line 6", "fp9"]),
                (HEAD.replace("units/fp8", "units/fp9"), ["line 1", "units/fp9"]),
                (HEAD.replace("max", "awq"), ["line 3", "awq", "supported: max"]),
                ("quantise: {}\n", ["line 1", "quantise", "quantize"]),
                ("quantize: {algorithm: max}\n", ["line 1", "quant_cfg"]),
                ("quantize: [\n", ["line ", "YAML"]),
                ("", ["mine.yaml"])):
            with self.subTest(text):
                self.refuse_recipe(["mine.yaml", *fragments], text)

    def test_fused_linears_must_agree(self):
        self.refuse_recipe(["q_proj", "k_proj", "give both the same"],
                           HEAD + both("*q_proj*", "fp8") + TAIL)

    def test_unsupported_combination(self):
        self.refuse_recipe(["q_proj"], HEAD + rule("*weight_quantizer", "fp8") +
                           rule("*input_quantizer", "nvfp4") + TAIL)

    def test_missing_file(self):
        self.refuse(2, ["nowhere.yaml"], "quantize", "--model", NANO_LLAMA, "--out",
                    self.folder / "out", "--recipe", self.folder / "nowhere.yaml")


if __name__ == "__main__":
    main()
