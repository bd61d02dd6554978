"""Interrupts runs of the program; shared by the tests of resuming."""
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from halftone_cli import command_line


def descendants(pid):
    """The process and all its children, from /proc."""
    found = [pid]
    for parent in found:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, path.read_text().split())
            except OSError:
                continue  # gone in the meantime
    return found


def kill_all(process, number=signal.SIGKILL):
    for pid in descendants(process.pid):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    return process.wait()


def kill_one_rank(process, draw):
    """One of the ranks, the launcher lives; mpirun then ends the others."""
    ranks = [pid for pid in descendants(process.pid) if is_rank(pid)]
    if not ranks:
        return process.wait()
    try:
        os.kill(draw.choice(ranks), signal.SIGKILL)
    except ProcessLookupError:
        pass
    return process.wait()


def is_rank(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "halftone"
    except OSError:
        return False


def start(options, ranks, log=None):
    return subprocess.Popen(command_line(*options, ranks=ranks), stdout=log or subprocess.DEVNULL,
                            stderr=log or subprocess.DEVNULL)


def wait_for(path, process):
    """Until the file is there or the process has ended."""
    while process.poll() is None and not Path(path).exists():
        time.sleep(0.001)


def manifest_of(out):
    return Path(f"{out}.workspace") / "manifest.json"


def is_over(out):
    """Killed after its very last step: the output is there and nothing to go on from."""
    return Path(out).exists() and not manifest_of(out).exists()


class RandomKills:
    """Starts one command again and again, each time with another number of ranks, and kills it
    until it has been killed `kills` times; then lets it end."""

    def __init__(self, seed, kills, ranks=(None, 2, 3, 4)):
        self.draw = random.Random(seed)
        self.kills = kills
        self.ranks = ranks
        self.resumed = 0

    def next_ranks(self, before):
        return self.draw.choice([ranks for ranks in self.ranks if ranks != before])

    def run(self, options, out, duration):
        """`duration`: seconds of an undisturbed run. The last run's exit code, and how many were
        killed."""
        ranks = None
        done = 0
        while done < self.kills:
            ranks = self.next_ranks(ranks)
            if is_over(out):
                return 0, done
            self.resumed += manifest_of(out).exists()
            process = start((*options, "--out", out), ranks)
            try:
                process.wait(self.draw.uniform(0.05, 1.0) * duration)
            except subprocess.TimeoutExpired:
                done += 1
                if ranks is None or self.draw.random() < 0.5:
                    kill_all(process)
                else:
                    kill_one_rank(process, self.draw)
                continue
            return process.returncode, done  # faster than the kill
        if is_over(out):
            return 0, done
        return start((*options, "--out", out), self.next_ranks(ranks)).wait(), done
