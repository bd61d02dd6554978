"""Runs the program and reads what it wrote; shared by the end-to-end tests.

The environment names the program (HALFTONE_PROGRAM) and MPI's starter (HALFTONE_MPIEXEC).
"""
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

PROGRAM = os.environ.get("HALFTONE_PROGRAM", "")
MPIEXEC = os.environ.get("HALFTONE_MPIEXEC", "mpirun")
DATA = Path(__file__).resolve().parent.parent / "data"
NANO_LLAMA = DATA / "models" / "nano-llama"

DONE, USAGE, INPUT, RESOURCES, FAILED = 0, 2, 3, 4, 6

# Enough to exercise padding and several batches, small enough for many runs.
SMALL_CALIBRATION = ("--calib-samples", 16, "--calib-length", 48, "--batch-size", 4)

# ctest shows a test as skipped when it exits with this (CMakeLists.txt).
SKIPPED_EXIT_CODE = 77


def command_line(*arguments, ranks=None):
    """`ranks=None` starts the program by itself, a number under mpirun."""
    if not PROGRAM:
        raise RuntimeError("HALFTONE_PROGRAM must name the program to test")
    line = [PROGRAM, *map(str, arguments)]
    # The references were made on CPUs; a GPU in the test machine must not change the results.
    if line[1:2] in (["quantize"], ["autoquantize"], ["evaluate"], ["plan"], ["verify"]) and "--device" not in line:
        line += ["--device", "cpu"]
    if ranks is not None:
        line = [MPIEXEC, "--allow-run-as-root", "--oversubscribe", "--bind-to", "none",
                "-n", str(ranks), *line]
    return line


def run(*arguments, ranks=None, timeout=300):
    """A hanging program fails the test by subprocess.TimeoutExpired."""
    return subprocess.run(command_line(*arguments, ranks=ranks), capture_output=True,
                          encoding="utf-8", errors="replace", timeout=timeout, check=False)


class CliTest(unittest.TestCase):
    """A test with a folder of its own, removed afterwards."""

    maxDiff = 4000

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="halftone-app-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def succeed(self, *arguments, ranks=None, timeout=300):
        result = run(*arguments, ranks=ranks, timeout=timeout)
        self.assertEqual(result.returncode, DONE,
                         f"{arguments} failed:\n{result.stderr}\n{result.stdout}")
        return result

    def succeed_json(self, *arguments, ranks=None, timeout=300):
        """Standard output must hold one JSON object and nothing else."""
        result = self.succeed(*arguments, "--json", ranks=ranks, timeout=timeout)
        try:
            return json.loads(result.stdout)
        except ValueError as error:
            return self.fail(f"{arguments}: standard output is not JSON ({error}):\n{result.stdout}")

    def refuse(self, code, fragments, *arguments, ranks=None, timeout=120):
        """The command must fail with `code` and its error line must hold all `fragments`."""
        result = run(*arguments, ranks=ranks, timeout=timeout)
        self.assertEqual(result.returncode, code,
                         f"{arguments}\n{result.stderr}\n{result.stdout}")
        errors = [line for line in result.stderr.splitlines() if " error " in line]
        self.assertTrue(errors, f"no error line in:\n{result.stderr}")
        for fragment in fragments:
            self.assertIn(fragment, errors[0], arguments)
        self.assertNotIn("unexpected:", errors[0], "every failure has a message of its own")
        return errors[0]

    def quantize(self, out, *options, model=NANO_LLAMA, ranks=None, timeout=300):
        """Quantizes into self.folder/out with the small calibration unless options give another."""
        calibration = () if "--calib-samples" in options else SMALL_CALIBRATION
        target = self.folder / out
        self.succeed("quantize", "--model", model, "--out", target, *options, *calibration,
                     ranks=ranks, timeout=timeout)
        return target

    def perplexity(self, model, *options, ranks=None):
        task = self.succeed_json("evaluate", "--model", model, *options,
                                 ranks=ranks)["tasks"]["perplexity"]
        return task["value"]

    def assert_close(self, value, expected, relative, text=""):
        self.assertLessEqual(abs(value - expected), relative * abs(expected),
                             f"{text}: {value} against {expected}, more than {relative} apart")

    def assert_same_checkpoint(self, folder, expected):
        """Byte for byte, apart from summary.json."""
        self.assertEqual(file_sums(folder), file_sums(expected))

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path


def sha256_of(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def file_sums(folder):
    """File name -> SHA-256 of a checkpoint, its summary left out."""
    return {str(path.relative_to(folder)): sha256_of(path)
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file() and path.name != "summary.json"}


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def summary_of(folder):
    return read_json(Path(folder) / "summary.json")


def main():
    """unittest.main(), with an exit code of its own when every test was skipped."""
    program = unittest.main(module="__main__", exit=False, verbosity=2)
    result = program.result
    if result.wasSuccessful() and result.skipped and len(result.skipped) >= result.testsRun:
        raise SystemExit(SKIPPED_EXIT_CODE)
    raise SystemExit(not result.wasSuccessful())
