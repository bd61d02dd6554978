"""An interrupted run goes on where it was, on any number of ranks, and ends with the same bytes."""
import hashlib
import json
import os
import random
import shutil
import signal
import time

from halftone_cli import (DATA, INPUT, NANO_LLAMA, USAGE, CliTest, file_sums, main, sha256_of)
from interruptions import RandomKills, kill_all, start, wait_for

NANO_DEEPSEEK = DATA / "models" / "nano-deepseek-v3"
STOPPED = 75


class Resume(CliTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out"
        self.workspace = self.folder / "out.workspace"

    def options(self, *more, model=NANO_LLAMA, name="fp8", samples=128, length=256, overhead=1):
        """A run of about a second, saved after every layer."""
        return ("quantize", "--model", model, "--format", name, "--save-overhead", overhead,
                "--calib-samples", samples, "--calib-length", length, "--threads", 1, *more)

    def expect(self, options):
        """The undisturbed run's bytes, and its seconds."""
        begin = time.monotonic()
        self.succeed(*options, "--out", self.folder / "undisturbed")
        self.duration = time.monotonic() - begin
        self.expected = file_sums(self.folder / "undisturbed")
        self.expected_store = sha256_of(self.folder / "undisturbed.workspace" / "calibration.h5")

    def interrupt(self, options, stage, number=signal.SIGKILL, ranks=None):
        """Ends a run when the results of `stage` are there. The exit code."""
        process = start((*options, "--out", self.out), ranks)
        wait_for(self.workspace / "stages" / f"{stage + 1:04}.h5", process)
        self.assertIsNone(process.poll(), "the run is longer than that")
        return kill_all(process, number)

    def go_on(self, options, ranks=None):
        result = self.succeed_json(*options, "--out", self.out, ranks=ranks)
        self.assertEqual(file_sums(self.out), self.expected)
        self.assertEqual(sha256_of(self.workspace / "calibration.h5"), self.expected_store)
        self.assertEqual([path.name for path in self.workspace.iterdir()], ["calibration.h5"])
        self.assertFalse((self.folder / ".out.partial").exists())
        return result

    def manifest(self):
        return json.loads((self.workspace / "manifest.json").read_text().splitlines()[0])

    def write_manifest(self, manifest):
        text = json.dumps(manifest)
        seal = hashlib.sha256(text.encode()).hexdigest()
        (self.workspace / "manifest.json").write_text(f"{text}\n{seal}\n")

    def test_killed_and_resumed_on_other_numbers_of_ranks(self):
        for name, model in (("nvfp4", NANO_LLAMA), ("fp8", NANO_DEEPSEEK)):
            options = self.options(model=model, name=name)
            with self.subTest(name=name):
                self.expect((*options, "--overwrite"))
                self.interrupt(options, 2)
                self.interrupt(options, 3, ranks=3)
                result = self.go_on(options, ranks=2)
                self.assertGreaterEqual(result["resumed_from_stage"], 3)
                shutil.rmtree(self.out)

    def test_formats_with_searches(self):
        """Search results and records of finished layers are kept; several formats share a run."""
        options = self.options(samples=32, name="int4_awq,fp8")
        self.expect(options)
        self.interrupt(options, 2)
        self.go_on(options)
        for name in ("int4_awq", "fp8"):
            summaries = [json.loads((folder / name / "summary.json").read_text())
                         for folder in (self.out, self.folder / "undisturbed")]
            self.assertEqual(summaries[0]["linears"], summaries[1]["linears"])
        self.succeed("export", "--model", NANO_LLAMA, "--format", "int4_awq", "--store",
                     self.workspace / "calibration.h5", "--out", self.folder / "exported")
        self.assertEqual(file_sums(self.folder / "exported"), file_sums(self.out / "int4_awq"))

    def test_quantized_activations_are_propagated(self):
        options = self.options(samples=16, length=64, name="nvfp4_gptq")
        self.expect(options)
        self.interrupt(options, 2)
        self.go_on(options, ranks=2)

    def test_signals_finish_the_layer(self):
        options = self.options(overhead=0)
        self.expect(options)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            with self.subTest(number=number):
                process = start((*options, "--out", self.out), None)
                wait_for(self.workspace / "stages" / "0002.h5", process)
                code = kill_all(process, number)
                self.assertEqual(code, STOPPED)
                self.assertFalse(self.out.exists())
                result = self.go_on(options, ranks=2)
                self.assertGreaterEqual(result["resumed_from_stage"], 2)
                shutil.rmtree(self.out)

    def test_random_kills(self):
        seed = random.SystemRandom().randrange(1_000_000)
        print(f"seed {seed}")
        options = self.options(model=NANO_DEEPSEEK, name="nvfp4")
        self.expect(options)
        killer = RandomKills(seed, kills=4, ranks=(None, 2))
        code, _ = killer.run(options, self.out, self.duration)
        self.assertEqual(code, 0)
        self.assertEqual(file_sums(self.out), self.expected)

    def damaged(self, options, name, change, expected, least):
        """A saved file is damaged; the run says so, does again what is lost, and ends the same."""
        self.interrupt(options, 3)
        path = self.workspace / name(self.manifest())
        change(path)
        process = self.succeed(*options, "--out", self.out, "--json")
        self.assertEqual(file_sums(self.out), self.expected)
        self.assertIn(expected, process.stderr)
        self.assertIn("damaged", process.stderr)
        self.assertGreaterEqual(json.loads(process.stdout)["resumed_from_stage"], least)
        shutil.rmtree(self.out)

    def test_damaged_files(self):
        def flip(path):
            data = bytearray(path.read_bytes())
            data[len(data) * 3 // 4] ^= 1
            path.write_bytes(data)

        def cut(path):
            os.truncate(path, path.stat().st_size - 1)

        options = self.options()
        self.expect(options)
        layer = lambda manifest: manifest["finished"][2]["file"]
        states = lambda manifest: manifest["saved"][0]["file"]
        self.damaged(options, layer, flip, "layer 1", 2)
        self.damaged(options, layer, cut, "layer 1", 2)
        self.damaged(options, layer, os.unlink, "layer 1", 2)
        self.damaged(options, states, flip, "checksum", 3)
        self.damaged(options, states, cut, "were saved", 3)

    def test_a_damaged_output_or_manifest_begins_anew(self):
        options = self.options()
        self.expect(options)
        self.interrupt(options, 3)
        (self.folder / ".out.partial" / "model.safetensors").unlink()
        self.assertEqual(self.go_on(options)["resumed_from_stage"], 0)
        shutil.rmtree(self.out)
        self.interrupt(options, 3)
        os.truncate(self.workspace / "manifest.json", 100)
        self.assertEqual(self.go_on(options)["resumed_from_stage"], 0)

    def test_another_runs_workspace(self):
        options = self.options()
        self.expect(options)
        self.interrupt(options, 3)
        out = ("--out", self.out)
        workspace = ["workspace", "another run", "--overwrite"]
        self.refuse(USAGE, [*workspace, "recipe"], *self.options(name="nvfp4"), *out)
        self.refuse(USAGE, [*workspace, "data"], *self.options(samples=9), *out, ranks=2)
        self.refuse(USAGE, [*workspace, "model"], *self.options(model=NANO_DEEPSEEK), *out)
        self.refuse(USAGE, [*workspace, "output"], *options, "--out", self.folder / "elsewhere",
                    "--workspace", self.workspace)
        manifest = self.manifest()
        old = json.loads(json.dumps(manifest))
        old["identity"]["halftone version"] = "0.0.1"
        self.write_manifest(old)
        self.refuse(USAGE, [*workspace, "halftone version", "0.0.1"], *options, *out)
        if os.geteuid() == 0:
            os.chown(self.workspace, 12345, 12345)
            self.refuse(USAGE, ["user 12345", "--workspace"], *options, *out)
            os.chown(self.workspace, 0, 0)
        self.write_manifest(manifest)
        self.assertGreater(self.go_on(options)["resumed_from_stage"], 0)

    def test_weights_that_were_replaced(self):
        """Other weights of the same shapes; and bad ones leave nothing to go on from."""
        model = self.folder / "model"
        shutil.copytree(NANO_LLAMA, model)
        weights = model / "model.safetensors"
        options = self.options(model=model)
        self.interrupt(options, 2)
        data = bytearray(weights.read_bytes())
        data[-2:] = b"\x80\x7f"  # infinity
        weights.write_bytes(data)
        self.refuse(USAGE, ["another run", "model's time of change"], *options, "--out", self.out)
        self.refuse(INPUT, ["NaN or infinity"], *options, "--out", self.out, "--overwrite")
        self.assertFalse((self.workspace / "manifest.json").exists())
        shutil.copy(NANO_LLAMA / "model.safetensors", weights)
        self.expect(options)
        self.assertEqual(self.go_on(options)["resumed_from_stage"], 0)

    def test_beginning_anew(self):
        options = self.options()
        self.expect(options)
        for more in (("--resume", "never"), ("--overwrite", "--kv-cache", "none", "--seed", 3)):
            self.interrupt(options, 2)
            self.assertEqual(self.go_on((*options, *more))["resumed_from_stage"], 0)
            shutil.rmtree(self.out)


if __name__ == "__main__":
    main()
