"""Killed at any moment, nothing half-written is visible and the same command then succeeds."""
import random
import time

from halftone_cli import (NANO_LLAMA, SMALL_CALIBRATION, CliTest, file_sums, main)
from interruptions import kill_all, start, wait_for


class CrashSafety(CliTest):
    def setUp(self):
        super().setUp()
        self.options = ("quantize", "--model", NANO_LLAMA, "--format", "fp8", *SMALL_CALIBRATION)
        self.out = self.folder / "out"
        start = time.monotonic()
        self.succeed(*self.options, "--out", self.folder / "undisturbed")
        self.duration = time.monotonic() - start
        self.expected = file_sums(self.folder / "undisturbed")

    def start(self, ranks, options=None):
        return start((*(options or self.options), "--out", self.out), ranks)

    def check_killed_at(self, moment, ranks):
        """`moment(process)` waits for the time to kill. A run that was faster is a complete one."""
        process = self.start(ranks)
        moment(process)
        finished = process.poll() is not None
        kill_all(process)
        if self.out.exists():
            # Published just before the kill: then everything must be there.
            self.assertEqual(file_sums(self.out), self.expected)
            self.assertTrue((self.out / "summary.json").exists())
        elif finished:
            self.fail(f"the run ended by itself with {process.returncode} and wrote nothing")
        self.succeed(*self.options, "--out", self.out, "--overwrite", ranks=ranks)
        self.assertEqual(file_sums(self.out), self.expected)
        left = {path.name for path in self.folder.iterdir()} - {
            "out", "out.workspace", "undisturbed", "undisturbed.workspace"}
        self.assertEqual(left, set(), "the second run leaves nothing of the first behind")

    def until_there(self, name):
        """Waits for a file of the unpublished output."""
        return lambda process: wait_for(self.folder / ".out.partial" / name, process)

    def test_at_random_moments(self):
        seed = random.SystemRandom().randrange(1_000_000)
        print(f"seed {seed}")
        draw = random.Random(seed)
        for ranks in (None, None, 2, 2):
            delay = draw.uniform(0.1, 1.0) * self.duration
            with self.subTest(seed=seed, ranks=ranks, delay=delay):
                self.check_killed_at(lambda _, delay=delay: time.sleep(delay), ranks)

    def test_when_the_output_has_just_been_laid_out(self):
        for ranks in (None, 2):
            with self.subTest(ranks=ranks):
                self.check_killed_at(self.until_there("model.safetensors"), ranks)

    def test_just_before_it_is_published(self):
        self.check_killed_at(self.until_there("hf_quant_config.json"), None)

    def test_several_formats_appear_together(self):
        """Not one format without the other, however late the kill."""
        options = [*self.options[:self.options.index("--format")], "--format", "fp8,nvfp4",
                   *self.options[self.options.index("--format") + 2:]]
        for name in ("fp8/hf_quant_config.json", "nvfp4/hf_quant_config.json", "fp8/summary.json"):
            with self.subTest(name=name):
                process = self.start(None, options)
                self.until_there(name)(process)
                kill_all(process)
                if self.out.exists():
                    self.assertEqual({path.name for path in self.out.iterdir()}, {"fp8", "nvfp4"})
                self.succeed(*options, "--out", self.out, "--overwrite")
                self.assertEqual({path.name for path in self.out.iterdir()}, {"fp8", "nvfp4"})
                for path in self.out.iterdir():
                    self.assertTrue((path / "summary.json").exists())

    def test_without_overwrite_after_an_early_kill(self):
        """The very same command, without --overwrite, is enough when nothing was published."""
        process = self.start(None)
        self.until_there("model.safetensors")(process)
        kill_all(process)
        self.assertFalse(self.out.exists())
        self.succeed(*self.options, "--out", self.out)
        self.assertEqual(file_sums(self.out), self.expected)


if __name__ == "__main__":
    main()
