"""Damaged, inconsistent and unsupported checkpoints: exit code 3 and a message that names the place."""
import json
import math

from checkpoints import (Checkpoint, Tensor, floats_of, header_of, read_checkpoint_tensors,
                         read_safetensors, with_values, write_raw_safetensors)
from halftone_cli import INPUT, NANO_LLAMA, CliTest, main, summary_of

Q0 = "model.layers.0.self_attn.q_proj.weight"
DOWN = "model.layers.2.mlp.down_proj.weight"
NORM = "model.layers.1.input_layernorm.weight"


class BadCheckpoints(CliTest):
    def refuse_model(self, fragments, model, *options, ranks=None):
        self.refuse(INPUT, fragments, "quantize", "--model", model, "--format", "fp8",
                    "--out", self.folder / "out", *options, ranks=ranks)
        self.assertFalse((self.folder / "out").exists())

    def refuse_everywhere(self, fragments, checkpoint, **save):
        """By quantize and evaluate, alone and with two ranks: mpirun must hand the code on."""
        model = checkpoint.save(self.folder / "model", **save)
        self.refuse_model(fragments, model)
        self.refuse_model(fragments, model, ranks=2)
        self.refuse(INPUT, fragments, "evaluate", "--model", model)


class DamagedFiles(BadCheckpoints):
    def setUp(self):
        super().setUp()
        self.model = Checkpoint().save(self.folder / "model")
        self.file = self.model / "model.safetensors"
        self.tensors = read_safetensors(self.file)
        self.header = header_of(self.tensors)
        self.data = b"".join(tensor.data for tensor in self.tensors.values())

    def check_header(self, fragments, text=None, length=None):
        write_raw_safetensors(self.file, json.dumps(self.header) if text is None else text,
                              self.data, length)
        self.refuse_model(["model.safetensors", *fragments], self.model)

    def test_truncated(self):
        content = self.file.read_bytes()
        for length in (0, 5, 8, 100, len(content) // 2, len(content) - 1):
            with self.subTest(length=length):
                self.file.write_bytes(content[:length])
                self.refuse_model(["model.safetensors"], self.model)

    def test_truncated_with_two_ranks(self):
        self.file.write_bytes(self.file.read_bytes()[:-1000])
        self.refuse_model(["model.safetensors", "rank "], self.model, ranks=2)

    def test_lengths_of_the_header(self):
        for length in (2 ** 63, 2 ** 64 - 1, 2 ** 40, len(json.dumps(self.header)) + len(self.data) + 1):
            with self.subTest(length=length):
                self.check_header([str(length) if length < 2 ** 63 else ""], length=length)

    def test_header_without_sense(self):
        for text in ("", "[]", "{", "no json", '{"a": 3}', '{"a": {"dtype": "BF16"}}', "\0" * 16,
                     '{"a": ' * 50000):
            with self.subTest(text=text[:20]):
                self.check_header([], text=text)

    def test_offsets(self):
        begin, end = self.header[Q0]["data_offsets"]
        for offsets in ([begin - 128, end - 128], [begin + 128, end + 128], [end, begin],
                        [begin, end + 2], [-1, end], [2 ** 62, 2 ** 62 + end - begin],
                        [begin, 2 ** 64 - 1], [begin, 1e30], [begin], "no list"):
            with self.subTest(offsets=offsets):
                self.header[Q0]["data_offsets"] = offsets
                self.check_header([Q0])

    def test_shapes(self):
        for shape in ([128, 127], [2 ** 63, 2], [2 ** 62, 2 ** 62], [-1, -16384], [128.5, 128], None):
            with self.subTest(shape=shape):
                self.header[Q0]["shape"] = shape
                self.check_header([Q0])

    def test_dtypes(self):
        for dtype in ("F32", "I8", "Q7", 3):
            with self.subTest(dtype=dtype):
                self.header[Q0]["dtype"] = dtype
                self.check_header([Q0])

    def test_duplicate_name(self):
        text = json.dumps(self.header)
        again = json.dumps({Q0: self.header[Q0]})[1:-1]
        self.check_header([Q0], text=f"{text[:-1]}, {again}}}")

    def test_not_floating(self):
        self.header[Q0]["dtype"] = "I16"
        self.check_header([Q0, "I16", "BF16"])

    def test_no_weights(self):
        self.file.unlink()
        self.refuse_model(["model.safetensors"], self.model)

    def test_no_folder(self):
        self.refuse_model(["nowhere"], self.folder / "nowhere")


class Shards(BadCheckpoints):
    def setUp(self):
        super().setUp()
        self.model = Checkpoint().save(self.folder / "model", shards=3)
        self.index_path = self.model / "model.safetensors.index.json"
        self.index = json.loads(self.index_path.read_text())

    def test_missing_shard(self):
        (self.model / "model-00002-of-00003.safetensors").unlink()
        self.refuse_model(["model-00002-of-00003.safetensors", "missing"], self.model)
        self.refuse_model(["model-00002-of-00003.safetensors", "missing"], self.model, ranks=2)

    def check_index(self, fragments):
        self.index_path.write_text(json.dumps(self.index))
        self.refuse_model(fragments, self.model)

    def test_index_names_another_shard(self):
        name = next(iter(self.index["weight_map"]))
        self.index["weight_map"][name] = "model-00003-of-00003.safetensors"
        self.check_index([name, "model-00003-of-00003.safetensors"])

    def test_index_leaves_a_tensor_out(self):
        del self.index["weight_map"][Q0]
        self.check_index([Q0])

    def test_index_leads_out_of_the_folder(self):
        self.index["weight_map"][Q0] = "../model.safetensors"
        self.check_index([Q0, "../model.safetensors"])

    def test_index_without_map(self):
        self.index = {"metadata": {}}
        self.check_index(["weight_map"])


class Tensors(BadCheckpoints):
    def test_unexpected_shape(self):
        checkpoint = Checkpoint()
        checkpoint.tensors[Q0] = Tensor("BF16", [64, 256], checkpoint.tensors[Q0].data)
        self.refuse_everywhere([Q0, "[64, 256]", "[128, 128]"], checkpoint)

    def test_missing(self):
        checkpoint = Checkpoint()
        del checkpoint.tensors[DOWN]
        self.refuse_everywhere([DOWN, "missing"], checkpoint)

    def test_not_finite(self):
        for name, value in ((DOWN, math.nan), (DOWN, -math.inf), (NORM, math.nan), (NORM, math.inf),
                            ("lm_head.weight", math.nan), ("model.embed_tokens.weight", math.inf)):
            with self.subTest(name=name, value=value):
                checkpoint = Checkpoint()
                checkpoint.tensors[name] = with_values(checkpoint.tensors[name], {100: value})
                model = checkpoint.save(self.folder / f"{name}{value}")
                self.refuse_model([name, "NaN or infinity"], model)

    def test_not_finite_with_two_ranks(self):
        """Each rank scans its part of a layer: the value must be found by whoever has it."""
        for position in (0, 128 * 384 - 1):
            checkpoint = Checkpoint()
            checkpoint.tensors[DOWN] = with_values(checkpoint.tensors[DOWN], {position: math.nan})
            model = checkpoint.save(self.folder / f"model{position}")
            self.refuse_model([DOWN, "NaN or infinity"], model, ranks=2)

    def check_finite(self, out):
        for name, tensor in read_checkpoint_tensors(out).items():
            if tensor.dtype == "F8_E4M3":
                self.assertFalse({0x7F, 0xFF} & set(tensor.data), f"{name} holds NaN")
            elif tensor.dtype in ("F32", "BF16"):
                self.assertTrue(all(map(math.isfinite, floats_of(tensor))), name)
            if name.endswith("weight_scale") and tensor.dtype == "F32":
                self.assertGreater(min(floats_of(tensor)), 0.0, name)

    def test_all_zero_weight(self):
        checkpoint = Checkpoint()
        zero = checkpoint.tensors[DOWN]
        checkpoint.tensors[DOWN] = Tensor(zero.dtype, zero.shape, bytes(len(zero.data)))
        model = checkpoint.save(self.folder / "model")
        for name in ("fp8", "nvfp4", "int8_wo"):
            with self.subTest(name):
                out = self.quantize(name, "--format", name, model=model)
                self.check_finite(out)
                summary = summary_of(out)
                self.assertEqual(summary["fallbacks"], 1)
                self.assertIn("zero", summary["linears"][DOWN.removesuffix(".weight")]["fallback"])
                self.assertEqual(set(read_checkpoint_tensors(out)[DOWN].data), {0})
                value = self.perplexity(out, "--data-samples", 4)
                self.assertTrue(math.isfinite(value), value)

    def test_all_zero_block_and_row(self):
        checkpoint = Checkpoint()
        columns = checkpoint.tensors[DOWN].shape[1]
        zeros = {**{16 * 5 + i: 0.0 for i in range(16)},
                 **{columns * 7 + i: 0.0 for i in range(columns)}}
        checkpoint.tensors[DOWN] = with_values(checkpoint.tensors[DOWN], zeros)
        model = checkpoint.save(self.folder / "model")
        for name in ("fp8", "nvfp4", "int8_wo"):
            with self.subTest(name):
                out = self.quantize(name, "--format", name, model=model)
                self.check_finite(out)
                self.assertEqual(summary_of(out)["fallbacks"], 0)


class Configs(BadCheckpoints):
    def check_config(self, fragments, **changes):
        checkpoint = Checkpoint()
        checkpoint.config.update(changes)
        model = checkpoint.save(self.folder / f"model{len(list(self.folder.iterdir()))}")
        self.refuse_model(["config.json", *fragments], model)

    def test_architecture(self):
        self.check_config(["LamaForCausalLM", "LlamaForCausalLM", "did you mean"],
                          architectures=["LamaForCausalLM"])
        self.check_config(["supported: ", "LlamaForCausalLM"], architectures=["BertModel"])
        for architectures in ([], None, "LlamaForCausalLM", [7]):
            self.check_config(["architectures"], architectures=architectures)

    def test_values(self):
        rope = {"rope_theta": 500000.0, "rope_type": "dynamic", "factor": 4.0}
        self.check_config(["dynamic", "supported: default, linear, llama3"], rope_parameters=rope)
        self.check_config(["low_freq_factor"], rope_parameters={"rope_type": "llama3", "factor": 8.0})
        self.check_config(["rope_theta"], rope_parameters={"rope_type": "default", "rope_theta": -1})
        self.check_config(["hidden_act", "gelu", "silu"], hidden_act="gelu")
        self.check_config(["num_hidden_layers", "1000000"], num_hidden_layers=1000000)
        self.check_config(["num_hidden_layers"], num_hidden_layers=2 ** 62)
        self.check_config(["num_hidden_layers"], num_hidden_layers=-1)
        self.check_config(["num_hidden_layers"], num_hidden_layers="four")
        self.check_config(["num_key_value_heads", "3"], num_key_value_heads=3)
        self.check_config(["hidden_size"], hidden_size=None)
        self.check_config(["dtype", "int8"], dtype="int8")

    def test_more_layers_than_there_are(self):
        checkpoint = Checkpoint()
        checkpoint.config["num_hidden_layers"] = 5
        self.refuse_model(["model.layers.4.", "missing"], checkpoint.save(self.folder / "model"))

    def test_malformed(self):
        model = Checkpoint().save(self.folder / "model")
        for text in ("", "{", "[1]", '{"a": NaN}', '{"hidden_size": 1, "hidden_size": 2}',
                     b"\xff\xfe", "[" * 100000):
            with self.subTest(text=text[:20]):
                content = text if isinstance(text, bytes) else text.encode()
                (model / "config.json").write_bytes(content)
                self.refuse_model(["config.json"], model)
        (model / "config.json").unlink()
        self.refuse_model(["config.json"], model)

    def test_quantized_already(self):
        out = self.quantize("fp8", "--format", "fp8")
        self.refuse_model(["quantized already", str(out)], out)
        self.refuse(2, ["quantized already"], "evaluate", "--model", out, "--format", "fp8")

    def test_more_layers_than_the_config_says(self):
        checkpoint = Checkpoint(NANO_LLAMA)
        checkpoint.config["num_hidden_layers"] = 3
        self.refuse_model(["model.layers.3.", "config.json asks for 3"],
                          checkpoint.save(self.folder / "model"))


if __name__ == "__main__":
    main()
