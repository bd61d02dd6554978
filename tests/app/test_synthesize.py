"""`halftone synthesize`: random checkpoints that every reader opens."""
import array
import subprocess
import sys
from pathlib import Path

from checkpoints import read_checkpoint_tensors
from halftone_cli import DATA, USAGE, CliTest, file_sums, main, read_json
from test_interop import interpreter

SMALL = ("--layers", 2, "--hidden", 64, "--intermediate", 96, "--heads", 4, "--kv-heads", 2,
         "--vocab", 256)
BENCH = Path(__file__).resolve().parents[1] / "bench" / "stream_rate.py"

# Every tensor that the architecture has is in the files, and nothing else.
LOAD = """
import sys, torch, transformers
model, info = transformers.AutoModelForCausalLM.from_pretrained(
    sys.argv[1], dtype=torch.bfloat16, output_loading_info=True)
assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
assert torch.isfinite(model(torch.arange(16).unsqueeze(0)).logits).all()
"""


class Synthesize(CliTest):
    def make(self, name, *options):
        self.succeed("synthesize", "--out", self.folder / name, *options)
        return self.folder / name

    def test_same_seed_same_bytes(self):
        one = self.make("one", *SMALL, "--threads", 1)
        self.assert_same_checkpoint(self.make("two", *SMALL, "--threads", 3), one)
        self.assertNotEqual(file_sums(self.make("other", *SMALL, "--seed", 1)), file_sums(one))

    def test_values(self):
        tensors = read_checkpoint_tensors(self.make("values", *SMALL))
        for name, tensor in tensors.items():
            words = array.array("H", bytes(tensor.data))
            magnitudes = [word & 0x7FFF for word in words]
            if name.endswith("norm.weight"):
                self.assertGreaterEqual(min(words), 0x3F70, name)  # 15/16
                self.assertLessEqual(max(words), 0x3F88, name)     # 17/16
            else:
                self.assertLessEqual(max(magnitudes), 0x3D00, name)     # 1/32
                self.assertGreaterEqual(max(magnitudes), 0x3CF0, name)  # close to it
                negative = sum(word >> 15 for word in words) / len(words)
                self.assertAlmostEqual(negative, 0.5, delta=0.05, msg=name)

    def test_size_sets_layers(self):
        shape = SMALL[2:]
        result = self.succeed_json("synthesize", "--out", self.folder / "sized", *shape, "--bytes",
                                   "1MB", "--max-shard-size", 400_000)
        self.assertGreaterEqual(result["bytes"], 1_000_000)
        layer = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 96 + 2 * 64)
        self.assertLess(result["bytes"], 1_000_000 + layer)
        self.assertGreater(result["files"], 1)
        layers = read_json(self.folder / "sized" / "config.json")["num_hidden_layers"]
        self.assertEqual(result["tensors"], 9 * layers + 3)

    def test_families_are_quantized(self):
        experts = (*SMALL, "--experts", 8)
        latent = (*SMALL[:8], *SMALL[10:], "--experts", 16, "--expert-intermediate", 32)
        for family, shape in (("llama", SMALL), ("mixtral", experts), ("deepseek-v3", latent),
                              ("qwen3-moe", (*experts, "--expert-intermediate", 32))):
            with self.subTest(family=family):
                model = self.make(family, "--family", family, *shape)
                self.succeed("quantize", "--model", model, "--format", "int8_wo", "--out",
                             self.folder / f"{family}-int8")

    def test_like_published_configurations(self):
        for name in ("gemma3-4b", "gpt-oss", "llama4-scout", "phi4-mini", "t5-v1.1"):
            with self.subTest(name=name):
                model = self.make(name, "--like", DATA / "archs" / name / "config.json")
                self.succeed("quantize", "--model", model, "--format", "fp8_pc_pt", "--out",
                             self.folder / f"{name}-fp8")

    def test_transformers_loads(self):
        python = interpreter()
        if python is None:
            self.skipTest("no Python with transformers")
        model = self.make("loaded", *SMALL)
        result = subprocess.run([python, "-c", LOAD, model], capture_output=True, text=True,
                                check=False)
        if "No module named 'torch'" in result.stderr:
            self.skipTest("no PyTorch beside transformers")
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_refusals(self):
        out = ("--out", self.folder / "refused")
        self.refuse(USAGE, ["--bytes", "20 bananas"], "synthesize", *out, "--bytes", "20 bananas")
        self.refuse(USAGE, ["--bytes and --layers"], "synthesize", *out, "--bytes", "1GB",
                    "--layers", 2)
        self.refuse(USAGE, ["one layer", "--hidden"], "synthesize", *out, "--bytes", "1KB")
        self.refuse(USAGE, ["--experts", "num_experts"], "synthesize", *out, "--experts", 4)
        self.refuse(USAGE, ["--family", "--like"], "synthesize", *out, "--family", "whisper")
        self.assertFalse((self.folder / "refused").exists())

    def test_rate_script_runs(self):
        """The script of the benchmark, on something small: no time is asserted."""
        figures = self.folder / "figures.json"
        subprocess.run([sys.executable, BENCH, "--folder", self.folder / "bench", "--bytes", "4MB",
                        "--shape", " ".join(map(str, SMALL[2:])), "--formats", "int8_wo",
                        "--json", figures], check=True, capture_output=True)
        result = read_json(figures)
        self.assertEqual(len(result["formats"]["int8_wo"]["peak_bytes"]), 2)
        self.assertGreaterEqual(result["bytes"], 4_000_000)


if __name__ == "__main__":
    main()
