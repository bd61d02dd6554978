"""halftone autoquantize: its scores against the reference's formula, the same result for any number
of ranks, residency and kill, every kind of model, and what it refuses."""
import json
import math
from pathlib import Path

from halftone_cli import DATA, INPUT, NANO_LLAMA, USAGE, CliTest, file_sums, main, read_json
from interruptions import kill_all, start, wait_for
from models import ARCHS

NANO_DEEPSEEK = DATA / "models" / "nano-deepseek-v3"
REFERENCE = Path(__file__).with_name("reference_scores.json")
SMALL = ("--calib-samples", 12, "--calib-length", 48, "--batch-size", 4, "--score-samples", 8)


def ranks_of(values):
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0] * len(values)
    for rank, index in enumerate(order):
        ranks[index] = rank
    return ranks


def correlation(a, b):
    """Spearman's."""
    a, b = ranks_of(a), ranks_of(b)
    n = len(a)
    return 1 - 6 * sum((x - y) ** 2 for x, y in zip(a, b)) / (n * (n * n - 1))


class AutoQuantize(CliTest):
    def search(self, out, *options, model=NANO_LLAMA, ranks=None):
        """The frontier that lies beside the output."""
        options = options if "--calib-samples" in options else (*options, *SMALL)
        given = () if "--bits" in options or "--decisions" in options else ("--bits", 8)
        formats = () if "--formats" in options else ("--formats", "nvfp4,fp8,none")
        self.succeed("autoquantize", "--model", model, "--out", self.folder / out, *given, *formats,
                     *options, ranks=ranks)
        return read_json(self.folder / f"{out}.frontier.json")

    def refuse_search(self, code, fragments, *options, model=NANO_LLAMA):
        self.refuse(code, fragments, "autoquantize", "--model", model, "--out",
                    self.folder / "refused", *SMALL, *options)
        self.assertFalse((self.folder / "refused").exists())
        self.assertFalse((self.folder / "refused.workspace" / "calibration.h5").exists())

    def test_scores_follow_the_reference(self):
        reference = read_json(REFERENCE)
        lines = (DATA / "goldens" / "calib_ids.jsonl").read_text().splitlines()
        data = self.write("ids.jsonl", "\n".join(lines[:reference["samples"]]))
        report = self.search("out", "--calib", data, "--calib-samples", reference["samples"],
                             "--batch-size", reference["batch"], "--dtype", "float32")
        self.assert_close(report["loss"], reference["loss"], 1e-4)
        groups = {group["name"]: group["scores"] for group in report["groups"]}
        self.assertEqual(set(groups), set(reference["scores"]))
        for name in ("fp8", "nvfp4"):
            mine = [groups[group][name] for group in reference["scores"]]
            theirs = [scores[name] for scores in reference["scores"].values()]
            self.assertGreaterEqual(correlation(mine, theirs), 0.98, name)
            # Engines share the scales of merged NVFP4 weights, the reference's search does not.
            for a, b in zip(mine, theirs):
                self.assert_close(a, b, 0.02 if name == "fp8" else 0.1, name)
        # 8 bits of all weights: what the reference counts.
        weights = sum(group["weights"] for group in report["groups"])
        decision = report["decisions"][0]
        bits = {"nvfp4": 4.5, "fp8": 8, "none": 16}
        counted = sum(group["weights"] * bits[decision["formats"][group["name"]]]
                      for group in report["groups"]) / weights
        self.assert_close(decision["bits"], counted, 1e-12)
        self.assertLessEqual(decision["bits"], 8)
        self.assertEqual(decision["gap"], 0)

    def test_ways_to_score_agree(self):
        """All rank the choices alike; fisher has kl's unit, nats a token."""
        scores = {}
        for method in ("gradient", "fisher", "kl"):
            report = self.search(method, "--score", method, "--calib-samples", 32,
                                 "--calib-length", 128, "--score-samples", 32)
            scores[method] = [group["scores"][name] for group in report["groups"]
                              for name in ("nvfp4", "fp8")]
        for method in ("gradient", "fisher"):
            self.assertGreater(correlation(scores[method], scores["kl"]), 0.85, method)
        ratios = sorted(a / b for a, b in zip(scores["fisher"], scores["kl"]))
        self.assertGreater(ratios[len(ratios) // 2], 0.5)
        self.assertLess(ratios[len(ratios) // 2], 2.0)

    def test_the_result_does_not_depend_on_ranks_or_residency(self):
        for model, method in ((NANO_LLAMA, "kl"), (NANO_DEEPSEEK, "gradient")):
            expected = self.search("alone", "--score", method, "--residency", "stream",
                                   "--overwrite", "--bits", 6.5, model=model)
            sums = file_sums(self.folder / "alone")
            layers = read_json(self.folder / "alone" / "hf_quant_config.json")["quantization"]
            self.assertEqual(layers["quant_algo"], "MIXED_PRECISION")
            self.assertEqual({layer["quant_algo"] for layer in layers["quantized_layers"].values()},
                             {"NVFP4", "FP8"})
            for ranks, more in ((2, ("--residency", "resident")), (4, ("--low-memory",)),
                                (1, ("--max-stage-bytes", 50000, "--residency", "resident"))):
                with self.subTest(model.name, ranks=ranks, more=more):
                    found = self.search("again", "--score", method, "--overwrite", *more, "--bits", 6.5,
                                        "--workspace", self.folder / f"{ranks}-{method}",
                                        model=model, ranks=ranks)
                    self.assertEqual(found, expected)
                    self.assertEqual(file_sums(self.folder / "again"), sums)

    def test_another_budget_needs_no_scoring(self):
        workspace = ("--workspace", self.folder / "work")
        first = self.search("a", *workspace)
        result = self.succeed("autoquantize", "--model", NANO_LLAMA, "--out", self.folder / "b",
                              "--formats", "nvfp4,fp8,none", "--bits", "5,7", *workspace, *SMALL)
        self.assertIn("earlier search", result.stderr)
        self.assertNotIn("score", [word for line in result.stderr.splitlines() for word in
                                   line.split()[:1]])
        second = read_json(self.folder / "b.frontier.json")
        self.assertEqual(second["groups"], first["groups"])
        self.assertEqual(sorted(path.name for path in (self.folder / "b").iterdir()),
                         ["auto_5", "auto_7"])
        # What was decided can be given back, and another search's workspace is refused.
        again = self.search("c", *workspace, "--decisions", self.folder / "b.frontier.json")
        self.assertEqual(file_sums(self.folder / "c"), file_sums(self.folder / "b"))
        self.assertEqual([one["formats"] for one in again["decisions"]],
                         [one["formats"] for one in second["decisions"]])
        self.refuse(USAGE, ["another search", "score", "--workspace"], "autoquantize", "--model",
                    NANO_LLAMA, "--out", self.folder / "d", "--formats", "nvfp4,fp8,none", "--bits",
                    5, *workspace, *SMALL, "--score", "kl")

    def test_killed_and_resumed(self):
        options = ("autoquantize", "--model", NANO_LLAMA, "--formats", "nvfp4,fp8", "--bits", 5.5,
                   "--save-overhead", 1, "--threads", 1, "--calib-samples", 96,
                   "--calib-length", 256)
        self.succeed(*options, "--out", self.folder / "undisturbed")
        expected = file_sums(self.folder / "undisturbed")
        workspace = self.folder / "out.workspace"
        for ranks, path in ((None, "stages/0003.h5"), (3, "scores/manifest.json"),
                            (2, "scores/stages/0003.h5"), (None, "export/stages/0002.h5")):
            process = start((*options, "--out", self.folder / "out"), ranks)
            wait_for(workspace / path, process)
            kill_all(process)
        self.succeed(*options, "--out", self.folder / "out", ranks=2)
        self.assertEqual(file_sums(self.folder / "out"), expected)
        self.assertEqual((self.folder / "out.frontier.json").read_bytes(),
                         (self.folder / "undisturbed.frontier.json").read_bytes())

    def test_models_of_many_kinds(self):
        """Experts of every kind, latent attention, sinks, chunks, encoders, sound, FP8 sources."""
        data = self.write("ids.jsonl", "\n".join(
            json.dumps([(7 * row + 3 * i) % 60 + 3 for i in range(20 + row)]) for row in range(4)))
        for name in ("llama4-scout", "gpt-oss", "deepseek-v3-fp8", "gemma3-1b", "nemotron-nas",
                     "t5-v1.1", "whisper"):
            with self.subTest(name):
                golden = ARCHS / name / "golden.safetensors"
                calibration = golden if name in ("t5-v1.1", "whisper") else data
                report = self.search(name, "--formats", "int8_wo,fp8,none", "--calib", calibration,
                                     "--bits", 12, model=ARCHS / name)
                scores = [score for group in report["groups"]
                          for format, score in group["scores"].items() if format != "none"]
                self.assertTrue(all(math.isfinite(score) and score > 0 for score in scores), scores)

    def test_memory_is_that_of_a_calibration(self):
        """Layers go back one at a time; the candidates' weights are held packed."""
        model = self.folder / "model"
        self.succeed("synthesize", "--out", model, "--hidden", 768, "--intermediate", 3072, "--heads",
                     12, "--kv-heads", 12, "--vocab", 512, "--layers", 6)
        data = self.write("ids.jsonl", "\n".join(
            json.dumps([(5 * row + 7 * i) % 500 for i in range(64)]) for row in range(8)))
        shared = ("--model", model, "--calib", data, "--threads", 1, "--residency", "stream")
        peak = self.succeed_json("quantize", *shared, "--format", "nvfp4,fp8", "--out",
                                 self.folder / "one")["peak_memory"]["host_bytes"]
        search = self.succeed_json("autoquantize", *shared, "--formats", "nvfp4,fp8", "--bits", 6,
                                   "--out", self.folder / "two")["peak_memory"]["host_bytes"]
        print(f"quantize {peak / 1e6:.1f} MB, autoquantize {search / 1e6:.1f} MB")
        self.assertLess(search, 1.5 * peak)

    def test_restrictions(self):
        report = self.search("out", "--disable", "*layers.0.*", "*lm_head", "--restrict",
                             "*down_proj=fp8,none", "--cost-exclude", "*lm_head", "--bits", 10,
                             "--kv-cache", "fp8", "--eval", DATA / "text" / "eval_selfwritten.jsonl",
                             "--eval-samples", 4)
        for group in report["groups"]:
            expected = {"nvfp4", "fp8", "none"}
            if "layers.0." in group["name"] or group["name"] == "lm_head":
                expected = {"none"}
            elif "down_proj" in group["name"]:
                expected = {"fp8", "none"}
            self.assertEqual(set(group["scores"]), expected, group["name"])
        self.assertEqual(report["groups"][-1]["cost_weight"], 0)
        self.assertGreater(report["decisions"][0]["perplexity"], 1)
        self.assertIn("</svg>", (self.folder / "out.frontier.svg").read_text())
        config = read_json(self.folder / "out" / "hf_quant_config.json")["quantization"]
        self.assertEqual(config["kv_cache_quant_algo"], "FP8")

    def test_experts_that_a_token_meets(self):
        report = self.search("out", "--cost", "active-moe", model=NANO_DEEPSEEK)
        experts = {group["cost_weight"] for group in report["groups"]
                   if group["name"].endswith(".experts")}
        config = read_json(NANO_DEEPSEEK / "config.json")
        self.assertEqual(experts, {config["num_experts_per_tok"] / config["n_routed_experts"]})

    def test_refusals(self):
        two = ("--formats", "nvfp4,fp8")
        self.refuse_search(USAGE, ["4.5 to 8 bits"], *two, "--bits", 4.4)
        self.refuse_search(USAGE, ["4.5 to 8 bits", "none"], *two, "--bits", "5,9")
        self.refuse_search(USAGE, ["bits a weight"], *two, "--bits", 5, "--disable", "*self_attn*")
        self.refuse_search(USAGE, ["--bits", "'x'"], *two, "--bits", "x")
        self.refuse_search(USAGE, ["--bits"], *two)
        self.refuse_search(USAGE, ["'fp9'"], "--formats", "nvfp4,fp9", "--bits", 5)
        self.refuse_search(USAGE, ["twice"], "--formats", "fp8,fp8", "--bits", 8)
        self.refuse_search(USAGE, ["gptq", "--formats"], "--formats", "nvfp4_gptq,fp8", "--bits", 5)
        self.refuse_search(USAGE, ["'nvfp4_awq' and 'nvfp4'", "mixed"], "--formats",
                           "nvfp4,nvfp4_awq", "--bits", 4.5)
        self.refuse_search(USAGE, ["NF4"], "--formats", "nf4,fp8", "--bits", 5)
        self.refuse_search(USAGE, ["--restrict", "all"], *two, "--bits", 5, "--restrict",
                           "*q_proj=fp8")
        self.refuse_search(USAGE, ["--disable", "fits no linear"], *two, "--bits", 5, "--disable",
                           "*w7*")
        self.refuse_search(USAGE, ["--loss"], *two, "--bits", 5, "--score", "kl", "--loss", "labels")
        single = self.write("single.jsonl", "\n".join(json.dumps([5]) for _ in range(8)))
        self.refuse_search(INPUT, ["no label", "--calib"], *two, "--bits", 5, "--calib", single)
        wrong = self.write("wrong.json", json.dumps(
            [{"name": "a", "formats": {"model.layers.9": "fp8"}}]))
        self.refuse_search(USAGE, ["wrong.json"], *two, "--decisions", wrong)


if __name__ == "__main__":
    main()
