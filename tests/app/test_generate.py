"""`evaluate --tasks generate` against transformers' generate() and against the program's own logits."""
import array
import json

from checkpoints import Tensor, floats_of, read_safetensors, write_safetensors
from halftone_cli import DATA, INPUT, NANO_LLAMA, USAGE, main, read_json
from models import ARCHS, ModelTest, largest

REFERENCE = read_json(DATA / "generation.json")
FP32 = ("--dtype", "float32")
# transformers 5.17 computes none of these as published on a CPU: it has no class for the first, and
# reads the others' low-bit weights or routers differently.
NO_REFERENCE = ("nemotron-nas", "deepseek-v3-fp8", "gpt-oss", "phi3.5-moe")


class GenerateTest(ModelTest):
    def generate(self, model, prompts, *options, ranks=None):
        source = self.write("prompts.jsonl", "".join(json.dumps(line) + "\n" for line in prompts))
        target = self.folder / "continued.jsonl"
        self.succeed("evaluate", "--model", model, "--tasks", "generate", "--input", source,
                     "--output", target, *options, ranks=ranks)
        return [json.loads(line) for line in target.read_text().splitlines()]

    def tokens(self, *arguments, **more):
        return [line["ids"] for line in self.generate(*arguments, **more)]


class Greedy(GenerateTest):
    def test_transformers_continues_alike(self):
        """FP32; rows come and go, as two of four prompts fit at a time."""
        self.assertGreaterEqual(len(REFERENCE), 15)
        for name, expected in REFERENCE.items():
            with self.subTest(name):
                folder = ARCHS / name if (ARCHS / name).exists() else DATA / "models" / name
                lines = self.generate(folder, expected["prompts"], *FP32, "--max-tokens", 64,
                                      "--generation-batch", 2)
                for line, prompt, tokens in zip(lines, expected["prompts"], expected["tokens"],
                                                strict=True):
                    # transformers was told not to stop.
                    self.assertEqual(line["ids"], tokens[:len(line["ids"])])
                    self.assertEqual(line["prompt_tokens"], len(prompt))
                    self.assertEqual(len(line["ids"]) == 64, line["finish_reason"] == "length")

    def test_own_logits_say_the_same(self):
        """Each token is the most probable one behind those before it, computed in one piece."""
        for name in NO_REFERENCE:
            with self.subTest(name):
                # Longer than the original length of longrope, from which on positions turn alike.
                prompt = sum(REFERENCE["llama-3.1"]["prompts"][1:3], [])
                tokens = self.tokens(ARCHS / name, [prompt], *FP32, "--max-tokens", 40)[0]
                whole = prompt + tokens
                shape = [1, len(whole)]
                write_safetensors(self.folder / "ids.safetensors", {
                    "input_ids": Tensor("I64", shape, array.array("q", whole).tobytes())})
                logits = self.logits(ARCHS / name, self.folder / "ids.safetensors", *FP32)["logits"]
                values, vocabulary = floats_of(logits), logits.shape[-1]
                tolerance = 1e-4 * largest(values)
                for place, token in enumerate(tokens, len(prompt) - 1):
                    row = values[place * vocabulary:(place + 1) * vocabulary]
                    self.assertGreaterEqual(row[token], max(row) - tolerance)

    def test_ranks_share_the_stages(self):
        for name in ("deepseek-moonlight", "gemma3-1b"):
            prompts = REFERENCE[name]["prompts"]
            alone = self.tokens(ARCHS / name, prompts, *FP32, "--max-tokens", 20)
            for ranks in (2, 4):
                with self.subTest(model=name, ranks=ranks):
                    found = self.tokens(ARCHS / name, prompts, *FP32, "--max-tokens", 20, ranks=ranks)
                    self.assertEqual(found, alone)

    def test_quantized_cache_and_weights(self):
        """An export continues as its own logits say, which see the cache as it is quantized."""
        folder = self.folder / "quantized"
        self.quantize(folder, "--format", "fp8", "--kv-cache", "fp8", "--calib-samples", 8)
        prompt = REFERENCE["nano-llama"]["prompts"][1]
        tokens = self.tokens(folder, [prompt], *FP32, "--max-tokens", 12)[0]
        self.assertEqual(len(tokens), 12)
        fake = self.tokens(NANO_LLAMA, [prompt], *FP32, "--max-tokens", 12, "--format", "fp8",
                        "--kv-cache", "fp8", "--calib-samples", 8)[0]
        self.assertEqual(tokens, fake)


class Sampled(GenerateTest):
    PROMPTS = ["The old house", "She said", "On the table there were"]
    DRAWN = ("--max-tokens", 12, "--temperature", 1.2)

    def lines(self, *options):
        return self.generate(NANO_LLAMA, [{"prompt": text} for text in self.PROMPTS], *FP32,
                             *options)

    def texts(self, *options):
        return [line["text"] for line in self.lines(*options)]

    def test_the_seed_decides(self):
        first = self.texts(*self.DRAWN, "--seed", 1)
        self.assertEqual(self.texts(*self.DRAWN, "--seed", 1, "--generation-batch", 1), first)
        self.assertNotEqual(self.texts(*self.DRAWN, "--seed", 2), first)

    def test_nothing_left_to_draw(self):
        greedy = self.texts("--max-tokens", 12)
        self.assertEqual(self.texts(*self.DRAWN, "--top-k", 1), greedy)
        self.assertEqual(self.texts(*self.DRAWN, "--top-p", 0.0), greedy)

    def test_stop_strings(self):
        text = self.texts("--max-tokens", 24)[0]
        stop = text[6:9]
        line = self.lines("--max-tokens", 24, "--stop", stop)[0]
        self.assertEqual(line["text"], text[:text.index(stop)])
        self.assertEqual(line["finish_reason"], "stop")


class Refusals(GenerateTest):
    def refuse_prompts(self, code, fragments, lines, *options, model=NANO_LLAMA):
        source = self.write("prompts.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        target = self.folder / "continued.jsonl"
        self.refuse(code, fragments, "evaluate", "--model", model, "--tasks", "generate", "--input",
                    source, "--output", target, *options)
        self.assertFalse(target.exists())

    def test_refusals(self):
        positions = read_json(NANO_LLAMA / "config.json")["max_position_embeddings"]
        self.refuse_prompts(INPUT, ["positions"], [[5] * positions])
        self.refuse_prompts(INPUT, ["without a token"], [{"prompt": ""}, {"prompt": "a"}])
        self.refuse_prompts(INPUT, ["line 1"], [[1 << 20]])
        self.refuse_prompts(USAGE, ["--context 10"], [[5] * 20], "--context", 10)
        self.refuse_prompts(USAGE, ["encoder"], [[5]], model=ARCHS / "t5-v1.1")
        self.refuse(USAGE, ["--input"], "evaluate", "--model", NANO_LLAMA, "--tasks", "generate")


if __name__ == "__main__":
    main()
