"""What goes along unchanged, what is left out with a reason, and how the output is cut into files."""
import json

from checkpoints import (Checkpoint, Tensor, bf16_tensor, read_checkpoint_tensors, read_safetensors)
from halftone_cli import NANO_LLAMA, CliTest, main, read_json, run, sha256_of, summary_of


class CopiedFiles(CliTest):
    def test_tokenizer_and_other_files(self):
        model = Checkpoint().save(self.folder / "model")
        # Odd spacing and an unusual padding side must stay as they are.
        settings = read_json(model / "tokenizer_config.json") | {"padding_side": "left"}
        (model / "tokenizer_config.json").write_text(json.dumps(settings, indent=7))
        copied = {"chat_template.jinja": b"{{ messages }}\r\n", "modeling_own.py": b"# code\n",
                  "LICENSE": b"\xff\x00 any bytes", "vocab.json": b"{}", "special_tokens_map.json": b"{ }"}
        dropped = {"pytorch_model.bin": b"old", "consolidated.pth": b"old", "hf_quant_config.json": b"{}",
                   "summary.json": b"{}", "pytorch_model.bin.index.json": b"{}", "recipe.yaml": b"old"}
        for name, content in {**copied, **dropped}.items():
            (model / name).write_bytes(content)
        out = self.quantize("out", "--format", "fp8", model=model)
        for name in (*copied, "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            self.assertEqual(sha256_of(out / name), sha256_of(model / name), name)
        self.assertEqual({path.name for path in out.iterdir()},
                         {*copied, "tokenizer.json", "tokenizer_config.json", "generation_config.json",
                          "training.json", "config.json", "hf_quant_config.json", "summary.json",
                          "model.safetensors"})
        self.assertIn("linears", summary_of(out), "the run's own, not the source's")

    def test_config_keeps_what_it_has(self):
        """Only quantization_config is added, at the end; unknown keys and the order stay."""
        checkpoint = Checkpoint()
        checkpoint.config = {"zebra": [1, {"b": 2, "a": 1e-5}], **checkpoint.config,
                             "auto_map": {"AutoModel": "own.Model"}, "large": 2 ** 53 + 1}
        out = self.quantize("out", "--format", "fp8", model=checkpoint.save(self.folder / "model"))
        config = read_json(out / "config.json")
        self.assertEqual(list(config), [*checkpoint.config, "quantization_config"])
        del config["quantization_config"]
        self.assertEqual(json.dumps(config), json.dumps(checkpoint.config))

    def test_generation_config(self):
        """A temperature without do_sample is refused by the reader of generation configurations."""
        for name, change, expected in (
                ("temperature", {"temperature": 0.6}, {"temperature": 0.6, "do_sample": True}),
                ("greedy", {"top_p": 0.9, "do_sample": False}, {"top_p": 0.9, "do_sample": True}),
                ("sampling", {"top_k": 5, "do_sample": True}, {"top_k": 5, "do_sample": True}),
                ("unset", {"temperature": None}, {"temperature": None})):
            with self.subTest(name):
                model = Checkpoint().save(self.folder / name)
                path = model / "generation_config.json"
                original = read_json(path)
                path.write_text(json.dumps(original | change))
                out = self.quantize(f"{name}-out", "--format", "int8_wo", model=model)
                self.assertEqual(read_json(out / path.name), original | expected)

    def test_extra_tensors(self):
        checkpoint = Checkpoint()
        extra = {"model.extra.weight": bf16_tensor([1.0, float("nan"), -2.0], [3]),
                 "counts": Tensor("I64", [], b"\x01" * 8), "flags": Tensor("BOOL", [2, 2], b"\1\0\0\1"),
                 "empty": Tensor("F32", [0, 4], b"")}
        checkpoint.tensors.update(extra)
        model = checkpoint.save(self.folder / "model")
        for ranks in (None, 2):
            out = self.quantize("out", "--format", "nvfp4", "--overwrite", model=model, ranks=ranks)
            tensors = read_checkpoint_tensors(out)
            for name, tensor in extra.items():
                self.assertEqual(tensors[name], tensor, name)
            self.assertEqual(summary_of(out)["tensors"]["extra"], sorted(extra))
        logged = run("quantize", "--model", model, "--format", "nvfp4", "--overwrite",
                     "--calib-samples", 2, "--out", out).stderr
        for name in extra:
            self.assertIn(f"'{name}'", logged)

    def test_tied_duplicate(self):
        """A tied head that is stored all the same is dropped; one that differs is kept and reported."""
        checkpoint = Checkpoint()
        checkpoint.config["tie_word_embeddings"] = True
        head = checkpoint.tensors["lm_head.weight"]
        checkpoint.tensors["lm_head.weight"] = checkpoint.tensors["model.embed_tokens.weight"]
        out = self.quantize("same", "--format", "fp8", model=checkpoint.save(self.folder / "model"))
        self.assertNotIn("lm_head.weight", read_checkpoint_tensors(out))
        self.assertEqual(summary_of(out)["tensors"]["dropped"],
                         [{"tensor": "lm_head.weight",
                           "reason": "tied to 'model.embed_tokens.weight'"}])
        checkpoint.tensors["lm_head.weight"] = head
        out = self.quantize("other", "--format", "fp8", model=checkpoint.save(self.folder / "differs"))
        self.assertEqual(read_checkpoint_tensors(out)["lm_head.weight"], head)
        self.assertEqual(summary_of(out)["tensors"]["extra"], ["lm_head.weight"])

    def test_untouched_weights(self):
        out = self.quantize("out", "--format", "fp8")
        source = read_safetensors(NANO_LLAMA / "model.safetensors")
        tensors = read_checkpoint_tensors(out)
        for name in source:
            if not name.endswith("_proj.weight"):
                self.assertEqual(tensors[name], source[name], name)


class Shards(CliTest):
    def test_limit(self):
        limit = 500000
        whole = self.quantize("whole", "--format", "fp8", "--kv-cache", "fp8")
        out = self.quantize("shards", "--format", "fp8", "--kv-cache", "fp8",
                            "--max-shard-size", limit, ranks=2)
        files = sorted(path.name for path in out.glob("*.safetensors"))
        self.assertGreater(len(files), 2)
        self.assertEqual(files, [f"model-{i + 1:05d}-of-{len(files):05d}.safetensors"
                                 for i in range(len(files))])
        index = read_json(out / "model.safetensors.index.json")
        placed, total = {}, 0
        for file in files:
            tensors = read_safetensors(out / file)
            size = sum(len(tensor.data) for tensor in tensors.values())
            # The embedding and the head are larger than the limit each: files of their own.
            self.assertTrue(size <= limit or len(tensors) == 1, file)
            placed |= dict.fromkeys(tensors, file)
            total += size
        self.assertEqual(index["weight_map"], placed)
        self.assertEqual(index["metadata"]["total_size"], total)
        self.assertEqual(read_checkpoint_tensors(out), read_checkpoint_tensors(whole))
        few = ("--data-samples", 16)
        self.assertEqual(self.perplexity(out, *few), self.perplexity(whole, *few))


if __name__ == "__main__":
    main()
