"""Models whose configuration and tensors disagree, and architectures that nobody knows."""
from checkpoints import Checkpoint, Tensor
from halftone_cli import INPUT, NANO_LLAMA, USAGE, file_sums, main, read_json, summary_of
from models import ARCHS, ModelTest, model_of


class BadModels(ModelTest):
    def refuse_model(self, fragments, checkpoint, *options, code=INPUT, ranks=None):
        number = len(list(self.folder.iterdir()))
        model = checkpoint.save(self.folder / f"model{number}")
        out = self.folder / f"out{number}"
        line = self.refuse(code, fragments, "quantize", "--model", model, "--format", "fp8",
                           "--calib", self.ids(), "--out", out, *options, ranks=ranks)
        self.assertFalse(out.exists())
        return line

    def configured(self, name, **changes):
        checkpoint = model_of(name)
        for key, value in changes.items():
            checkpoint.config[key] = value
        return checkpoint


class Disagreements(BadModels):
    def test_sizes(self):
        for name, key, value, named in (
                ("llama-3.1", "intermediate_size", 56, "mlp."),
                ("llama-3.1", "hidden_size", 128, "[256, 128]"),
                ("llama-3.1", "num_key_value_heads", 4, "k_proj"),
                ("mixtral-8x7b", "intermediate_size", 32, "experts.0.w"),
                ("qwen3-moe", "moe_intermediate_size", 32, "experts.0."),
                ("deepseek-v3", "kv_lora_rank", 48, "kv_a"),
                ("deepseek-v3", "moe_intermediate_size", 24, "experts."),
                ("gpt-oss", "intermediate_size", 64, "experts."),
                ("t5-v1.1", "d_ff", 48, "DenseReluDense"),
                ("whisper", "d_model", 128, "128")):
            with self.subTest(name=name, key=key):
                self.refuse_model(["config.json", named], self.configured(name, **{key: value}))

    def test_no_weight_is_read_for_it(self):
        """A NaN in the first tensors would be found if they were read."""
        checkpoint = self.configured("llama-3.1", num_hidden_layers=3)
        for name in list(checkpoint.tensors):
            tensor = checkpoint.tensors[name]
            checkpoint.tensors[name] = Tensor(tensor.dtype, tensor.shape,
                                              b"\xff\xff" * (len(tensor.data) // 2))
        line = self.refuse_model(["model.layers.2.", "missing"], checkpoint)
        self.assertNotIn("NaN", line)
        self.refuse_model(["model.layers.2.", "missing"], checkpoint, ranks=2)

    def test_numbers_of_layers(self):
        for name, key in (("llama-3.1", "num_hidden_layers"), ("mixtral-8x7b", "num_hidden_layers"),
                          ("t5-v1.1", "num_layers"), ("whisper", "encoder_layers")):
            with self.subTest(name):
                layers = model_of(name).config[key]
                self.refuse_model(["missing"], self.configured(name, **{key: layers + 1}))
        self.refuse_model(["model.layers.1.", "config.json asks for 1"],
                          self.configured("llama-3.1", num_hidden_layers=1))

    def test_experts(self):
        for name, tensor in (("mixtral-8x7b", "model.layers.1.block_sparse_moe.experts.2.w3.weight"),
                             ("qwen3-moe", "model.layers.1.mlp.experts.3.up_proj.weight"),
                             ("llama4-scout",
                              "language_model.model.layers.1.feed_forward.experts.down_proj"),
                             ("gpt-oss", "model.layers.1.mlp.experts.down_proj_scales")):
            with self.subTest(name):
                checkpoint = model_of(name)
                del checkpoint.tensors[tensor]
                self.refuse_model([tensor, "missing"], checkpoint)
        experts = model_of("mixtral-8x7b").config["num_local_experts"]
        for change in (1, -1):
            with self.subTest(change=change):
                self.refuse_model(["model.layers.0.block_sparse_moe."], self.configured(
                    "mixtral-8x7b", num_local_experts=experts + change))

    def test_routers(self):
        self.refuse_model(["num_experts_per_tok"],
                          self.configured("mixtral-8x7b", num_experts_per_tok=99))
        self.refuse_model(["topk_group"], self.configured("deepseek-v3", topk_group=99))

    def test_rope(self):
        for name, kind in (("llama-3.1", "spiral"), ("phi4-mini", "spiral"),
                           ("deepseek-v3", "spiral")):
            with self.subTest(name):
                checkpoint = model_of(name)
                checkpoint.config["rope_scaling"] = {"rope_type": kind, "factor": 2.0}
                self.refuse_model(["config.json", kind, "supported"], checkpoint)

    def test_extra_tensors_are_reported_and_copied(self):
        for name in ("llama-3.1", "qwen3-moe"):
            with self.subTest(name):
                checkpoint = model_of(name)
                checkpoint.tensors["adapter.weight"] = Tensor("BF16", [2, 3], bytes(range(12)))
                model = checkpoint.save(self.folder / name)
                out = self.quantize(f"{name}-out", "--format", "fp8", "--calib", self.ids(),
                                    model=model)
                self.assertEqual(summary_of(out)["tensors"]["extra"], ["adapter.weight"])
                written = Checkpoint(out).tensors["adapter.weight"]
                self.assertEqual(written, checkpoint.tensors["adapter.weight"])


class Architectures(BadModels):
    def test_unknown(self):
        line = self.refuse_model(["NewForCausalLM", "--family NAME", "supported: "],
                                 self.configured("llama-3.1", architectures=["NewForCausalLM"]))
        for known in ("LlamaForCausalLM", "MixtralForCausalLM", "GptOssForCausalLM",
                      "DeepseekV3ForCausalLM", "WhisperForConditionalGeneration"):
            self.assertIn(known, line)

    def test_taken_for_a_family(self):
        """The name in config.json stays; everything else is as if it were known."""
        options = ("--format", "fp8", "--calib", self.ids())
        expected = self.quantize("known", *options, model=ARCHS / "llama-3.1")
        renamed = self.configured("llama-3.1", architectures=["NewForCausalLM"])
        model = renamed.save(self.folder / "renamed")
        found = self.quantize("taken", *options, "--family", "llama", model=model)
        self.assertEqual(read_json(found / "config.json")["architectures"], ["NewForCausalLM"])
        differing = {name for name, digest in file_sums(found).items()
                     if digest != file_sums(expected)[name]}
        self.assertEqual(differing, {"config.json"})
        self.succeed("evaluate", "--model", found, "--family", "llama", "--tasks", "logits",
                     "--input", ARCHS / "llama-3.1" / "golden.safetensors", "--output",
                     self.folder / "logits.safetensors")

    def test_taken_for_the_wrong_family(self):
        self.refuse_model(["model.layers.0.mlp.", "missing"], model_of("mixtral-8x7b"), "--family",
                          "llama")
        self.refuse_model(["model.layers.0.self_attn.q_norm.weight", "missing"],
                          self.configured("llama-3.1", head_dim=16), "--family", "qwen3")

    def test_unknown_family(self):
        self.refuse(USAGE, ["lama", "did you mean", "llama", "halftone models"], "quantize",
                    "--model", NANO_LLAMA, "--format", "fp8", "--family", "lama", "--out",
                    self.folder / "out")
        self.refuse(USAGE, ["zzzzzzzz", "halftone models"], "evaluate", "--model", NANO_LLAMA,
                    "--family", "zzzzzzzz")


if __name__ == "__main__":
    main()
