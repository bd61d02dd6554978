"""The small commands, and what goes to standard output and to standard error."""
import json
import struct

from checkpoints import read_safetensors
from halftone_cli import DATA, NANO_LLAMA, SMALL_CALIBRATION, CliTest, main, read_json, run

LLAMA3 = DATA / "tokenizers" / "llama-3"
COMMANDS = ("quantize", "evaluate", "tokenize", "inspect", "formats", "models")


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Tokenize(CliTest):
    def tokenize(self, lines, *options):
        path = self.write("input.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        result = self.succeed("tokenize", "--model", LLAMA3, "--input", path, *options)
        # Only \n ends a line: texts may hold other line separators.
        output = [json.loads(line) for line in result.stdout.split("\n") if line]
        self.assertEqual(len(output), len(lines))
        return output

    def test_ids(self):
        golden = read_lines(LLAMA3 / "golden.jsonl")
        texts = [{"text": line["text"]} for line in golden]
        for options, key in (((), "ids"), (("--plain",), "ids_plain")):
            for line, found in zip(golden, self.tokenize(texts, *options)):
                self.assertEqual(found, {"ids": line[key]}, line["text"])

    def test_decode(self):
        golden = read_lines(LLAMA3 / "golden.jsonl")
        found = self.tokenize([{"ids": line["ids"]} for line in golden], "--decode")
        for line, text in zip(golden, found):
            self.assertEqual(text, {"text": line["decoded"]})

    def test_decode_of_any_ids(self):
        golden = [line for line in read_lines(LLAMA3 / "decode.jsonl") if line["skip_special_tokens"]]
        self.assertTrue(golden)
        # A bare list is as good as an object.
        for line, text in zip(golden, self.tokenize([line["ids"] for line in golden], "--decode")):
            self.assertEqual(text, {"text": line["decoded"]})

    def test_text_field(self):
        self.assertEqual(self.tokenize([{"body": " "}], "--plain", "--text-field", "body"),
                         [{"ids": [220]}])

    def test_mistakes(self):
        for text, options, fragments in (('{"text": 3}\n', (), ["line 1", "text"]),
                                         ('{"text": ""}\n{\n', (), ["line 2"]),
                                         ('{"ids": [-1]}\n', ("--decode",), ["line 1", "-1"]),
                                         ('{"ids": [1000000]}\n', ("--decode",), ["line 1", "1000000"]),
                                         ('{"ids": "a"}\n', ("--decode",), ["line 1"])):
            with self.subTest(text):
                self.refuse(3, ["input.jsonl", *fragments], "tokenize", "--model", LLAMA3, "--input",
                            self.write("input.jsonl", text), *options)
        self.refuse(3, ["nowhere.jsonl"], "tokenize", "--model", LLAMA3,
                    "--input", self.folder / "nowhere.jsonl")
        self.refuse(3, ["tokenizer.json"], "tokenize", "--model", self.folder,
                    "--input", LLAMA3 / "golden.jsonl")


class Inspect(CliTest):
    def check_tensors(self, inspected, file):
        expected = {name: {"name": name, "dtype": tensor.dtype, "shape": tensor.shape,
                           "bytes": len(tensor.data), "file": file.name}
                    for name, tensor in read_safetensors(file).items()}
        self.assertEqual({tensor["name"]: tensor for tensor in inspected["tensors"]}, expected)
        self.assertEqual(inspected["bytes"], sum(tensor["bytes"] for tensor in expected.values()))

    def test_checkpoint_and_file(self):
        file = NANO_LLAMA / "model.safetensors"
        for path, kind in ((NANO_LLAMA, "checkpoint"), (file, "safetensors")):
            inspected = self.succeed_json("inspect", path)
            self.assertEqual(inspected["kind"], kind)
            self.check_tensors(inspected, file)
            # The same path, named by its option.
            self.assertEqual(self.succeed_json("inspect", "--path", path), inspected)
            plain = self.succeed("inspect", path).stdout
            self.assertIn("model.layers.3.mlp.up_proj.weight", plain)
            self.assertIn("39 tensors", plain)

    def test_quantized_checkpoint_and_store(self):
        out = self.quantize("out", "--format", "fp8", "--kv-cache", "fp8")
        inspected = self.succeed_json("inspect", out)
        self.assertEqual(inspected["quantization_config"],
                         read_json(out / "config.json")["quantization_config"])
        store = self.succeed_json("inspect", self.folder / "out.workspace" / "calibration.h5")
        self.assertEqual((store["kind"], store["stages_done"], store["stages"]), ("store", 6, 6))
        self.check_store(store, out)
        self.assertIn("q_proj", self.succeed(
            "inspect", self.folder / "out.workspace" / "calibration.h5").stdout)

    def check_store(self, store, out):
        """The store holds the maxima that the exported scales came from."""
        tensors = read_safetensors(out / "model.safetensors")
        for name in [name for name in tensors if name.endswith(".input_scale")]:
            scale, = struct.unpack("<f", tensors[name].data)
            amax = store["linears"][name.removesuffix(".input_scale")]["input_amax"]
            self.assertGreater(amax, 0.0)
            self.assert_close(scale * 448.0, amax, 1e-6, name)

    def test_mistakes(self):
        self.refuse(3, ["nowhere"], "inspect", self.folder / "nowhere")
        self.refuse(3, ["config.json"], "inspect", self.folder)
        self.refuse(3, ["broken.h5"], "inspect", self.write("broken.h5", b"not HDF5" * 100))
        self.refuse(3, ["broken.safetensors"], "inspect", self.write("broken.safetensors", "{}"))
        self.refuse(2, ["--path", "twice"], "inspect", NANO_LLAMA, "--path", NANO_LLAMA)
        self.refuse(2, ["positional"], "inspect", NANO_LLAMA, NANO_LLAMA)


class Registries(CliTest):
    def test_formats(self):
        listed = self.succeed_json("formats")
        names = {entry["name"] for entry in listed["formats"]}
        self.assertLessEqual({"fp8", "nvfp4", "int8_wo"}, names)
        self.assertLessEqual({"fp8", "fp8_cast"}, {entry["name"] for entry in listed["kv_cache"]})
        plain = self.succeed("formats").stdout
        for entry in listed["formats"] + listed["kv_cache"]:
            self.assertTrue(entry["description"])
            self.assertIn(entry["name"], plain)

    def test_every_listed_format_works_under_both_names(self):
        for entry in self.succeed_json("formats")["formats"]:
            if entry["name"] == "nvfp4_experts_only":
                self.refuse(2, ["quantizes no linear"], "quantize", "--model", NANO_LLAMA,
                            "--format", entry["name"], "--out", self.folder / "experts")
                continue
            out = self.quantize(entry["name"], "--format", entry["name"])
            if entry["preset"] != entry["name"]:
                self.assert_same_checkpoint(
                    self.quantize(entry["preset"], "--format", entry["preset"]), out)

    def test_models(self):
        text = json.dumps(self.succeed_json("models"))
        self.assertIn("LlamaForCausalLM", text)
        self.assertIn("LlamaForCausalLM", self.succeed("models").stdout)


class Help(CliTest):
    def test_overview(self):
        overview = self.succeed("--help").stdout
        for command in COMMANDS:
            self.assertIn(command, overview)
        self.assertEqual(self.succeed("help").stdout, overview)
        self.assertRegex(self.succeed("--version").stdout, r"^halftone \d+\.\d+\.\d+\n$")

    def test_commands(self):
        for command in COMMANDS:
            result = self.succeed(command, "--help")
            self.assertIn(f"Usage: halftone {command}", result.stdout)
            self.assertEqual(result.stderr, "")

    def test_once_under_mpirun(self):
        result = self.succeed("quantize", "--help", ranks=2)
        self.assertEqual(result.stdout.count("Usage: halftone quantize"), 1)


class Streams(CliTest):
    def test_json_and_logs(self):
        """succeed_json() parses standard output as a whole; logs must be on standard error."""
        for ranks in (None, 2):
            options = ("quantize", "--model", NANO_LLAMA, "--format", "fp8,nvfp4", "--overwrite",
                       "--out", self.folder / "out", *SMALL_CALIBRATION)
            printed = self.succeed_json(*options, ranks=ranks)
            self.assertEqual([entry["format"] for entry in printed["outputs"]], ["fp8", "nvfp4"])
            self.assertEqual(set(printed),
                             {"outputs", "phases", "peak_memory", "memory", "rows_per_call",
                              "residency", "weights_held_bytes", "resumed_from_stage"})
            logged = run(*options, "--json", ranks=ranks).stderr
            self.assertIn("4 batches", logged)

    def test_evaluate(self):
        options = ("evaluate", "--model", NANO_LLAMA, "--data-samples", 3)
        task = self.succeed_json(*options)["tasks"]["perplexity"]
        self.assertEqual(set(task), {"value", "nll", "tokens"})
        self.assertRegex(self.succeed(*options).stdout,
                         rf"^perplexity {task['value']:.6f} .* {task['tokens']} tokens\)\n$")


if __name__ == "__main__":
    main()
