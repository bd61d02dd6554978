"""Calibration of mixtures of experts: coverage, floors, routing to all, layers in parts."""
import json
import random

from checkpoints import Tensor, floats_of, header_of, read_checkpoint_tensors
from halftone_cli import CliTest, main, summary_of
from models import ARCHS, ModelTest, id_lines

LINES, LENGTH = 6, 24
TOKENS = LINES * LENGTH


def coverage_of(folder):
    """Stage name -> what summary.json says of its experts."""
    return {name: record["expert_coverage"] for name, record in summary_of(folder)["linears"].items()
            if "expert_coverage" in record}


def experts_of(folder):
    """The records of the routed experts' linears."""
    return {name: record for name, record in summary_of(folder)["linears"].items()
            if ".experts." in name}


def random_bf16(draw, count):
    """Values of either sign with magnitudes of 0.008 to 0.031: no NaN, and no two layers alike."""
    data = bytearray(draw.randbytes(2 * count))
    high = bytes((byte & 0x80) | 0x3C for byte in range(256))
    data[1::2] = data[1::2].translate(high)
    return bytes(data)


def count_of(shape):
    count = 1
    for size in shape:
        count *= size
    return count


class Coverage(ModelTest):
    def export(self, out, name, *options, what="fp8", lines=None):
        calibration = self.ids() if lines is None else self.write("few.jsonl", lines)
        return self.quantize(out, "--format", what, "--calib", calibration, *options,
                             model=ARCHS / name)

    def test_tokens_are_counted(self):
        for name in ("mixtral-8x7b", "qwen3-moe", "gpt-oss", "deepseek-v3"):
            with self.subTest(name):
                config = json.loads((ARCHS / name / "config.json").read_text())
                coverage = coverage_of(self.export(name, name))
                self.assertTrue(coverage)
                for record in coverage.values():
                    counts = record["tokens"]
                    self.assertEqual(len(counts), record["experts"])
                    self.assertEqual(sum(counts), TOKENS * config["num_experts_per_tok"])
                    self.assertEqual(record["min_tokens"], min(counts))
                    self.assertEqual(record["max_tokens"], max(counts))
                    self.assertEqual(record["without_tokens"],
                                     [e for e, count in enumerate(counts) if count == 0])
                    self.assertEqual(record["floor"], 1)
                    self.assertEqual(record["below_floor"], record["without_tokens"])

    def test_experts_without_tokens_take_over_their_peers_scale(self):
        """Two tokens cannot reach all experts."""
        out = self.export("few", "qwen3-moe", lines="[1, 2]\n")
        unseen = sum(len(record["without_tokens"]) for record in coverage_of(out).values())
        self.assertGreater(unseen, 0)
        fallbacks = [name for name, record in experts_of(out).items() if "fallback" in record]
        self.assertEqual(len(fallbacks), 3 * unseen)
        self.assertEqual(summary_of(out)["fallbacks"], 3 * unseen)
        scales = {}
        for name, tensor in read_checkpoint_tensors(out).items():
            if ".experts." in name and name.endswith("input_scale"):
                layer, projection = name.split(".")[2], name.split(".")[-2]
                scales.setdefault((layer, projection), set()).add(floats_of(tensor)[0])
        self.assertTrue(scales)
        self.assertTrue(all(len(values) == 1 for values in scales.values()), scales)

    def test_floor_above_everything(self):
        for what in ("fp8", "int8_sq"):
            with self.subTest(what):
                out = self.export(what, "mixtral-8x7b", "--expert-min-tokens", 100000, what=what)
                records = experts_of(out)
                self.assertEqual(len(records), 2 * 8 * 3)
                self.assertTrue(all("fewer than 100000" in record["fallback"]
                                    or "no token" in record["fallback"]
                                    for record in records.values()), records)
                self.assertEqual(summary_of(out)["fallbacks"], len(records))
                for record in coverage_of(out).values():
                    self.assertEqual(record["below_floor"], list(range(8)))

    def test_floor_between(self):
        """Those below it fall back, the others do not."""
        tokens = [count for record in coverage_of(self.export("a", "mixtral-8x7b")).values()
                  for count in record["tokens"]]
        floor = sorted(tokens)[len(tokens) // 2]
        out = self.export("b", "mixtral-8x7b", "--expert-min-tokens", floor)
        below = sum(count < floor for count in tokens)
        self.assertTrue(0 < below < len(tokens))
        self.assertEqual(sum("fallback" in record for record in experts_of(out).values()), 3 * below)

    def test_every_token_to_every_expert(self):
        for name in ("mixtral-8x7b", "qwen3-moe", "deepseek-v3"):
            with self.subTest(name):
                own = self.export(f"{name}-own", name)
                every = self.export(f"{name}-all", name, "--moe-calib-experts-ratio", 1)
                for record in coverage_of(every).values():
                    self.assertEqual(set(record["tokens"]), {TOKENS})
                self.check_outputs_propagate(own, every)
                ranks = self.quantize(f"{name}-2", "--format", "fp8", "--calib", self.ids(),
                                      "--moe-calib-experts-ratio", 1, model=ARCHS / name, ranks=2)
                self.assert_same_checkpoint(ranks, every)

    def check_outputs_propagate(self, own, every):
        """The layers behind see what the model computes, whatever its experts were shown."""
        seen, shown = read_checkpoint_tensors(own), read_checkpoint_tensors(every)
        outside = [key for key in seen if key.endswith("input_scale") and ".experts." not in key]
        inside = [key for key in seen if key.endswith("input_scale") and ".experts." in key]
        self.assertTrue(any(".layers.1.self_attn." in key for key in outside))
        for key in outside:
            self.assertEqual(seen[key], shown[key], key)
        for key in inside:
            self.assertGreaterEqual(floats_of(shown[key])[0], floats_of(seen[key])[0], key)
        self.assertTrue(any(seen[key] != shown[key] for key in inside))

    def test_a_share_of_the_experts(self):
        out = self.export("half", "mixtral-8x7b", "--moe-calib-experts-ratio", 0.5)
        for record in coverage_of(out).values():
            self.assertGreaterEqual(sum(record["tokens"]), TOKENS * 4)
            self.assertLess(sum(record["tokens"]), TOKENS * 8)


HIDDEN, WIDTH, EXPERTS, VOCABULARY = 512, 1365 // 16 * 16, 64, 256


def make_mixtral(folder):
    """One layer, 256 MB of experts, written piece by piece."""
    folder.mkdir()
    config = {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral",
              "torch_dtype": "bfloat16", "hidden_size": HIDDEN, "intermediate_size": WIDTH,
              "vocab_size": VOCABULARY, "num_hidden_layers": 1, "num_attention_heads": 8,
              "num_key_value_heads": 8, "num_local_experts": EXPERTS, "num_experts_per_tok": 2,
              "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "sliding_window": None, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    layer = "model.layers.0."
    shapes = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN],
              "lm_head.weight": [VOCABULARY, HIDDEN], "model.norm.weight": [HIDDEN],
              f"{layer}input_layernorm.weight": [HIDDEN],
              f"{layer}post_attention_layernorm.weight": [HIDDEN],
              f"{layer}block_sparse_moe.gate.weight": [EXPERTS, HIDDEN]}
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        shapes[f"{layer}self_attn.{name}.weight"] = [HIDDEN, HIDDEN]
    for expert in range(EXPERTS):
        for name, shape in (("w1", [WIDTH, HIDDEN]), ("w2", [HIDDEN, WIDTH]),
                            ("w3", [WIDTH, HIDDEN])):
            shapes[f"{layer}block_sparse_moe.experts.{expert}.{name}.weight"] = shape
    planned = {name: Tensor("BF16", shape, range(2 * count_of(shape)))
               for name, shape in shapes.items()}
    header = json.dumps(header_of(planned)).encode()
    draw = random.Random(11)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for shape in shapes.values():
            file.write(random_bf16(draw, count_of(shape)))
    return folder


class LargeLayer(CliTest):
    def test_parts_take_less_memory(self):
        model = make_mixtral(self.folder / "model")
        calibration = self.write("ids.jsonl", id_lines(VOCABULARY, seed=3, lines=4))
        options = ("quantize", "--model", model, "--format", "fp8", "--calib", calibration,
                   "--threads", 1)
        peaks, digests = [], set()
        for more in ((), ("--max-stage-bytes", 20000000)):
            # The least of three runs: how far writes run behind varies.
            runs = [self.succeed_json(*options, *more, "--overwrite", "--out", self.folder / "out")
                    for _ in range(3)]
            peaks.append(min(run["peak_memory"]["host_bytes"] for run in runs))
            digests.update(run["outputs"][0]["digest"] for run in runs)
        self.assertEqual(len(digests), 1)
        print("peaks:", *(f"{peak / 1e6:.0f} MB" for peak in peaks))
        # Writes that run behind hold up to a quarter of the layer in either case.
        layer_bytes = 2 * 3 * EXPERTS * WIDTH * HIDDEN
        self.assertGreater(peaks[0] - peaks[1], 0.3 * layer_bytes)


if __name__ == "__main__":
    main()
