"""Every family in formats of every kind: quantized, exported, read back, compared."""
import math
import random
import struct
import wave

from checkpoints import floats_of, read_checkpoint_tensors, read_safetensors
from halftone_cli import INPUT, SMALL_CALIBRATION, main, read_json, run, summary_of
from models import (ARCHS, FAMILIES, TINY_STAGES, ModelTest, golden_input, relative_error, rms_error)

FP32 = ("--dtype", "float32")
TOGETHER = ("fp8", "int8_sq", "int8_wo")
# These have a linear whose rows do not divide into blocks of 16.
NO_NVFP4 = {"deepseek-moonlight", "deepseek-v3", "deepseek-v3-fp8", "gemma3-1b", "gemma3-4b",
            "llama-3.2", "phi4", "phi4-mini", "qwen2-moe", "qwen2.5", "qwen3", "t5-v1.0", "t5-v1.1",
            "whisper"}
# Norm of the error over the norm of the logits: of dense models, and of those with a router, where
# an error may choose another expert. The models are untrained, which makes errors grow.
BOUNDS = {"fp8": (0.32, 0.58), "int8_sq": (0.36, 0.46), "int8_wo": (0.07, 0.26),
          "nvfp4": (0.64, 0.80), "int4": (0.57, 0.72)}
TABLE = {}


class EveryFamily(ModelTest):
    def calibration(self, name):
        return golden_input(name) if name == "whisper" else self.ids()

    def options(self, name, what):
        given = ("--recipe", self.int4_recipe()) if what == "int4" else ("--format", what)
        cache = ("--kv-cache", "fp8") if what in ("int4", "nvfp4") else ()
        return (*given, *cache, "--calib", self.calibration(name), *SMALL_CALIBRATION, *FP32)

    def check_error(self, name, what, folder):
        golden = read_safetensors(golden_input(name))
        found = self.logits(folder, golden_input(name), *FP32)["logits"]
        error = rms_error(found, golden["logits"])
        TABLE.setdefault(name, {})[what] = error
        routed = any(".router." in f".{key}" for key in golden)
        self.assertLess(error, BOUNDS[what][routed], (name, what))
        self.assertGreater(error, 1e-3, "nothing was quantized")
        return found

    def check_exact(self, name, what, found):
        """What was exported computes what quantizing in memory computes."""
        fake = self.logits(ARCHS / name, golden_input(name), *self.options(name, what),
                           output="fake.safetensors")["logits"]
        self.assertLess(relative_error(found, fake), 1e-5, (name, what))

    def each_family(self, check):
        for name in FAMILIES:
            with self.subTest(name):
                check(name)

    def test_eight_bits_together(self):
        """Also with layers in parts, every third family on three ranks: the same digests."""
        def check(name):
            options = ("quantize", "--model", ARCHS / name, *self.options(name, ",".join(TOGETHER)))
            result = self.succeed_json(*options, "--out", self.folder / name)
            parts = self.succeed_json(*options, *TINY_STAGES, "--out", self.folder / f"{name}-3",
                                      ranks=3 if FAMILIES.index(name) % 3 == 0 else None)
            digests = [[output["digest"] for output in run["outputs"]] for run in (result, parts)]
            self.assertEqual(*digests)
            self.assertEqual(len(set(digests[0])), 3)
            compared = TOGETHER[FAMILIES.index(name) % 3]
            for what in TOGETHER:
                found = self.check_error(name, what, self.folder / name / what)
                if what == compared:
                    self.check_exact(name, what, found)
        self.each_family(check)

    def test_int4(self):
        def check(name):
            out = self.quantize(name, *self.options(name, "int4"), model=ARCHS / name)
            found = self.check_error(name, "int4", out)
            if FAMILIES.index(name) % 2 == 0:
                self.check_exact(name, "int4", found)
        self.each_family(check)

    def test_nvfp4(self):
        def check(name):
            if name in NO_NVFP4:
                line = self.refuse(INPUT, ["multiple of 16", "--recipe"], "quantize", "--model",
                                   ARCHS / name, "--out", self.folder / name,
                                   *self.options(name, "nvfp4"))
                linear = line.split("'")[1]
                shape = line.split(" is [")[1].split("]")[0]
                self.assertNotEqual(int(shape.split(", ")[1]) % 16, 0, line)
                self.assertTrue(linear.endswith(".weight"), line)
                return
            out = self.quantize(name, *self.options(name, "nvfp4"), model=ARCHS / name)
            self.check_exact(name, "nvfp4", self.check_error(name, "nvfp4", out))
        self.each_family(check)

    @classmethod
    def tearDownClass(cls):
        print("\nerror of the logits", *(f"{what:>8}" for what in BOUNDS), sep="  ")
        for name, row in sorted(TABLE.items()):
            cells = (f"{row[what]:8.4f}" if what in row else f"{'-':>8}" for what in BOUNDS)
            print(f"{name:19}", *cells, sep="  ")


class Sound(ModelTest):
    def write_wave(self, name, seed, seconds=0.5, rate=16000):
        draw = random.Random(seed)
        path = self.folder / name
        samples = [int(8000 * math.sin(0.02 * t * (seed + 1)) + draw.uniform(-2000, 2000))
                   for t in range(int(seconds * rate))]
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
        return path

    def test_wave_files_calibrate(self):
        waves = [self.write_wave(f"{i}.wav", seed=i) for i in range(3)]
        out = self.quantize("fp8", "--format", "fp8", "--calib", *waves, model=ARCHS / "whisper")
        two = self.quantize("two", "--format", "fp8", "--calib", *waves, model=ARCHS / "whisper",
                            ranks=2)
        self.assert_same_checkpoint(two, out)
        scales = {name: floats_of(tensor)[0] for name, tensor in read_checkpoint_tensors(out).items()
                  if name.endswith(".input_scale")}
        self.assertEqual(len(scales), summary_of(out)["tensors"]["quantized"])
        self.assertTrue(all(0 < scale < 100 for scale in scales.values()), scales)
        other = self.quantize("other", "--format", "fp8", "--calib", waves[0],
                              model=ARCHS / "whisper")
        self.assertNotEqual(summary_of(other)["digest"], summary_of(out)["digest"])
        self.assertEqual(read_json(out / "config.json")["architectures"],
                         ["WhisperForConditionalGeneration"])

    def test_sound_is_needed(self):
        result = run("quantize", "--model", ARCHS / "whisper", "--format", "fp8", "--out",
                     self.folder / "out")
        self.assertEqual(result.returncode, 2)
        self.assertIn("WAV", result.stderr)

    def test_text_model_refuses_sound(self):
        path = self.write_wave("a.wav", seed=1)
        self.refuse(INPUT, ["a.wav"], "quantize", "--model", ARCHS / "llama-3.1", "--format", "fp8",
                    "--calib", path, "--out", self.folder / "out")


if __name__ == "__main__":
    main()
