"""Ranks that are lost, stopped, or not the same as the others: every rank says so and ends."""
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from halftone_cli import (MPIEXEC, NANO_LLAMA, PROGRAM, SMALL_CALIBRATION, USAGE, CliTest,
                          command_line, main)

PEER = 5
RANKS = 3

# Runs a rank and notes its process and its exit code. mpirun's signals go to both; only the rank
# shall answer them.
WRAPPER = """
trap : TERM
"$@" 2> "$NOTES/stderr.$OMPI_COMM_WORLD_RANK" &
pid=$!
echo $pid > "$NOTES/pid.$OMPI_COMM_WORLD_RANK.new"
mv "$NOTES/pid.$OMPI_COMM_WORLD_RANK.new" "$NOTES/pid.$OMPI_COMM_WORLD_RANK"
while :; do
  wait $pid
  code=$?
  kill -0 $pid 2> /dev/null || break
done
echo $code > "$NOTES/code.$OMPI_COMM_WORLD_RANK"
[ $code -le 128 ] || code=5
exit $code
"""


class LostRank(CliTest):
    """A run of three ranks that takes far longer than the tests wait."""

    def setUp(self):
        super().setUp()
        text = " ".join(f"word{i % 97}" for i in range(400))
        calib = self.write("calib.jsonl", "".join(
            json.dumps({"text": f"{i} {text}"}) + "\n" for i in range(3000)))
        self.options = ("quantize", "--model", NANO_LLAMA, "--format", "fp8", "--calib", calib,
                        "--calib-samples", 3000, "--calib-length", 256, "--batch-size", 4,
                        "--threads", 1, "--out", self.folder / "out")

    def start(self, *more, mpi=()):
        line = command_line(*self.options, *more, ranks=RANKS)
        at = line.index(PROGRAM)
        line[at:at] = [*mpi, "sh", "-c", WRAPPER, "sh"]
        log = open(self.folder / "log", "w", encoding="utf-8")
        self.addCleanup(log.close)
        process = subprocess.Popen(line, stdout=log, stderr=log,
                                   env={**os.environ, "NOTES": str(self.folder)})
        self.addCleanup(self.end, process)
        deadline = time.monotonic() + 120
        while "calibrate: " not in self.log():
            self.assertIsNone(process.poll(), self.log())
            self.assertLess(time.monotonic(), deadline, self.log())
            time.sleep(0.02)
        time.sleep(1)  # until the others have heard of it
        return process

    def end(self, process):
        for path in self.folder.glob("pid.*"):
            if not (self.folder / f"code.{path.suffix[1:]}").exists():
                self.send(int(path.suffix[1:]), signal.SIGKILL)
        if process.poll() is None:
            process.kill()
        process.wait()

    def send(self, rank, what):
        try:
            os.kill(int((self.folder / f"pid.{rank}").read_text()), what)
        except ProcessLookupError:
            pass

    def log(self):
        """What mpirun says, and the ranks: not through it, which may be gone."""
        return "\n".join(path.read_text(encoding="utf-8", errors="replace")
                         for path in (self.folder / "log", *self.folder.glob("stderr.*")))

    def errors_of(self, rank):
        return [line for line in self.log().splitlines() if f" rank {rank} error " in line]

    def check_named(self, process, lost, what, seconds):
        """All others name the lost rank, its activity and their own, and exit with 5."""
        start = time.monotonic()
        code = process.wait(timeout=60)
        self.assertLess(time.monotonic() - start, seconds, self.log())
        self.assertEqual(code, PEER, self.log())
        for rank in set(range(RANKS)) - {lost}:
            errors = self.errors_of(rank)
            self.assertEqual(len(errors), 1, self.log())
            self.assertRegex(errors[0], f"rank {lost} on host \\S+ {what}.* of calibrate [a-z]+.*; "
                             f"rank {rank} has (waited|computed) [0-9.]+ s in .* of calibrate ")
            self.assertEqual((self.folder / f"code.{rank}").read_text().strip(), str(PEER),
                             self.log())
        self.assertFalse((self.folder / "out").exists())

    def test_killed(self):
        """Its process is missed at once, long before the limit of a minute."""
        process = self.start()
        self.send(1, signal.SIGKILL)
        self.check_named(process, 1, r"is gone \(its process ended\), last seen in ", 10)

    def test_killed_where_connections_break(self):
        """Over TCP, MPI itself notices and must not end the others before they have spoken."""
        process = self.start(mpi=("--mca", "btl", "tcp,self"))
        self.send(0, signal.SIGKILL)
        self.check_named(process, 0, r"is gone \(its process ended\), last seen in ", 10)

    def test_without_their_launcher(self):
        process = self.start()
        process.kill()
        deadline = time.monotonic() + 10
        while len(list(self.folder.glob("code.*"))) < RANKS:
            self.assertLess(time.monotonic(), deadline, self.log())
            time.sleep(0.02)
        for rank in range(RANKS):
            self.assertEqual((self.folder / f"code.{rank}").read_text().strip(), str(PEER))
            for lost in range(RANKS):
                self.assertTrue(
                    any(re.search(f"rank {lost} on host \\S+ has lost its launcher .* of calibrate ",
                                  line) for line in self.errors_of(rank)), self.log())

    def test_stopped(self):
        process = self.start("--watchdog-seconds", 3)
        self.send(2, signal.SIGSTOP)
        self.check_named(process, 2, r"was last heard of [23]\.[0-9] s ago, in ", 10)

    def test_stopped_for_a_moment(self):
        """Shorter than the limit is nothing to end a run for."""
        process = self.start("--watchdog-seconds", 20)
        self.send(1, signal.SIGSTOP)
        time.sleep(2)
        self.send(1, signal.SIGCONT)
        time.sleep(1)
        self.assertIsNone(process.poll(), self.log())
        self.assertNotIn(" error ", self.log())


class UnequalRanks(CliTest):
    def command(self, *more, program=PROGRAM):
        line = command_line("quantize", "--model", NANO_LLAMA, "--format", "fp8", "--out",
                            self.folder / "out", *SMALL_CALIBRATION, *more)
        return [str(program), *line[1:]]

    def run_unequal(self, first, last):
        line = [MPIEXEC, "--allow-run-as-root", "--oversubscribe", "--bind-to", "none",
                "-n", "2", *first, ":", "-n", "1", *last]
        return subprocess.run(line, capture_output=True, encoding="utf-8", errors="replace",
                              timeout=60, check=False)

    def check_refused(self, result, pattern):
        self.assertEqual(result.returncode, USAGE, result.stderr)
        errors = [line for line in result.stderr.splitlines() if " error " in line]
        self.assertTrue(errors, result.stderr)
        self.assertRegex(errors[0], pattern)
        self.assertFalse((self.folder / "out").exists())

    def test_other_options(self):
        result = self.run_unequal(self.command(), self.command("--seed", 1))
        self.check_refused(result, "all ranks need the same options, but rank 0 has .* and rank 2 ")

    def test_other_program(self):
        copy = self.folder / "halftone"
        shutil.copy(PROGRAM, copy)
        with open(copy, "ab") as file:
            file.write(b"x")
        result = self.run_unequal(self.command(), self.command(program=copy))
        self.check_refused(result, r"the same program \(SHA-256\), but rank 0 on host \S+ has "
                                   r"'[0-9a-f]{64}' and rank 2 on host \S+ has '[0-9a-f]{64}'")

    def test_other_model(self):
        copy = self.folder / "model"
        shutil.copytree(NANO_LLAMA, copy)
        config = copy / "config.json"
        config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        # The same path, as on hosts with a disk of their own.
        link = Path("model-of-this-rank")
        lines = []
        for number, target in enumerate((NANO_LLAMA, copy)):
            place = self.folder / f"place{number}"
            place.mkdir()
            (place / link).symlink_to(target)
            line = command_line("quantize", "--model", link, "--format", "fp8", "--out",
                                self.folder / "out", *SMALL_CALIBRATION)
            lines.append(["-wdir", str(place), *line])
        self.check_refused(self.run_unequal(*lines),
                           "the same model in 'model-of-this-rank', but rank 0 has .* and rank 2 ")


class CheckedCollectives(CliTest):
    def test_changes_nothing(self):
        plain = self.quantize("plain", "--format", "fp8", ranks=2)
        checked = self.quantize("checked", "--format", "fp8", "--check-collectives",
                                "--watchdog-seconds", 0, ranks=2)
        self.assert_same_checkpoint(checked, plain)


if __name__ == "__main__":
    main()
