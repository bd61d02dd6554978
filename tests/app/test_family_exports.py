"""What exports of models with experts, other modalities and extra layers hold, name by name."""
from checkpoints import read_checkpoint_tensors, read_safetensors
from halftone_cli import main, read_json, summary_of
from models import ARCHS, ModelTest

ROUTERS = (".router.weight", ".gate.weight", ".shared_expert_gate.weight")


def source_tensors(name):
    """Without those of the golden files beside it."""
    return read_safetensors(ARCHS / name / "model.safetensors")


class Exports(ModelTest):
    def export(self, name, what):
        out = self.quantize(f"{name}-{what}", "--format", what, "--calib", self.ids(),
                            model=ARCHS / name)
        return out, source_tensors(name), read_checkpoint_tensors(out)

    def ignored(self, out):
        ignored = read_json(out / "config.json")["quantization_config"]["ignore"]
        self.assertEqual(ignored, read_json(out / "hf_quant_config.json")["quantization"]
                         ["exclude_modules"])
        return ignored

    def check_same(self, source, found, names):
        self.assertTrue(names)
        for name in names:
            self.assertEqual(found[name], source[name], name)

    def test_routers_stay_as_they_are(self):
        for name in ("mixtral-8x7b", "qwen2-moe", "qwen3-moe", "deepseek-v3", "glm4-moe", "gpt-oss",
                     "llama4-scout", "phi3.5-moe"):
            for what in ("fp8", "int8_wo"):
                with self.subTest(name=name, what=what):
                    out, source, found = self.export(name, what)
                    routers = [key for key in source if key.endswith(ROUTERS)]
                    if name == "deepseek-v3":  # that of the extra layer is ignored with its layer
                        routers = [key for key in routers if "layers.2." not in key]
                    self.check_same(source, found, routers)
                    ignored = self.ignored(out)
                    for router in routers:
                        self.assertIn(router.removesuffix(".weight"), ignored)

    def check_stacked(self, name, prefix, what, inner, outer):
        """`inner`, `outer`: size of the layer's output and width of an expert."""
        out, source, found = self.export(name, what)
        experts = {key.split(".experts.")[1]: tensor for key, tensor in found.items()
                   if key.startswith(f"{prefix}.experts.")}
        expected = {}
        for stack, rows, columns in (("gate_up_proj", inner, 2 * outer), ("down_proj", outer, inner)):
            fp8 = what == "fp8"
            expected[stack] = (("F8_E4M3", [4, rows, columns]) if fp8
                               else ("U8", [4, rows // 2, columns]))
            expected[f"{stack}_weight_scale"] = (("F32", []) if fp8
                                                 else ("F8_E4M3", [4, rows // 16, columns]))
            expected[f"{stack}_input_scale"] = ("F32", [])
            if not fp8:
                expected[f"{stack}_weight_scale_2"] = ("F32", [])
            if name == "gpt-oss":
                expected[f"{stack}_bias"] = ("BF16", [4, columns])
                bias = f"{prefix}.experts.{stack}_bias"
                self.assertEqual(found[bias], source[bias])
        self.assertEqual({key: (tensor.dtype, tensor.shape) for key, tensor in experts.items()},
                         expected)
        return out

    def test_stacked_experts(self):
        for what in ("fp8", "nvfp4"):
            with self.subTest(what):
                self.check_stacked("gpt-oss", "model.layers.0.mlp", what, 64, 96)
                self.check_stacked("llama4-scout", "language_model.model.layers.0.feed_forward",
                                   what, 64, 16)

    def test_experts_one_by_one(self):
        """Engines know stacks in few formats: others come expert by expert."""
        for name, prefix, width in (
                ("gpt-oss", "model.layers.0.mlp.experts", 96),
                ("llama4-scout", "language_model.model.layers.0.feed_forward.experts", 16)):
            with self.subTest(name):
                _, _, found = self.export(name, "int8_wo")
                for expert in range(4):
                    for key, tensor in found.items():
                        if not key.startswith(f"{prefix}.{expert}."):
                            continue
                        self.assertRegex(key, r"\.(gate|up|down|gate_up)_proj\."
                                              r"(weight|weight_scale|bias)$")
                    down = found[f"{prefix}.{expert}.down_proj.weight"]
                    self.assertEqual((down.dtype, down.shape), ("I8", [64, width]))
                self.assertNotIn(f"{prefix}.down_proj", found)

    def test_selection_bias_stays_wide(self):
        for name in ("deepseek-v3", "deepseek-moonlight", "deepseek-v3-fp8", "glm4-moe"):
            with self.subTest(name):
                _, source, found = self.export(name, "fp8")
                biases = [key for key in source if key.endswith("e_score_correction_bias")]
                self.check_same(source, found, biases)
                self.assertEqual({found[key].dtype for key in biases}, {"F32"})

    def test_extra_layer_of_deepseek(self):
        out, source, found = self.export("deepseek-v3", "fp8")
        extra = [key for key in source if key.startswith("model.layers.2.")]
        self.check_same(source, found, extra)
        self.assertFalse([key for key in found if key.startswith("model.layers.2.")
                          and key not in extra])
        self.assertIn("model.layers.2*", self.ignored(out))
        self.assertEqual(sorted(summary_of(out)["tensors"]["extra"]), sorted(extra))

    def test_other_modalities(self):
        for name, towers in (("llama4-scout", ("vision_model", "multi_modal_projector")),
                             ("gemma3-4b", ("vision_tower",))):
            with self.subTest(name):
                out, source, found = self.export(name, "fp8")
                carried = [key for key in source if not key.startswith("language_model.")]
                self.check_same(source, found, carried)
                for tower in towers:
                    self.assertTrue(any(key.startswith(tower) for key in carried), tower)
                    self.assertIn(f"{tower}*", self.ignored(out))

    def test_tied_heads(self):
        for name in ("llama-3.2", "gemma3-1b", "whisper", "t5-v1.0"):
            with self.subTest(name):
                calibration = (ARCHS / name / "golden.safetensors" if name == "whisper"
                               else self.ids())
                out = self.quantize(name, "--format", "fp8", "--calib", calibration,
                                    model=ARCHS / name)
                source, found = source_tensors(name), read_checkpoint_tensors(out)
                self.assertFalse([key for key in found if "lm_head" in key or "proj_out" in key])
                embeddings = [key for key in source
                              if key.endswith(("embed_tokens.weight", "shared.weight"))]
                self.check_same(source, found, embeddings)
                config = read_json(out / "config.json")
                del config["quantization_config"]
                self.assertEqual(config, read_json(ARCHS / name / "config.json"))


if __name__ == "__main__":
    main()
