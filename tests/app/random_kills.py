"""Kills a quantization at random moments, resumes it each time with another number of ranks and
compares the result with that of an undisturbed run, for each format and residency:

HALFTONE_PROGRAM=build/halftone python3 tests/app/random_kills.py --model DIR [--kills 20] [--seed N]
    [--format fp8,nvfp4] [--residency stream,resident,compressed] [--ranks 1,2,3,4] -- [options]
"""
import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from halftone_cli import command_line, file_sums
from interruptions import RandomKills


def undisturbed(options, out, ranks=None):
    begin = time.monotonic()
    subprocess.run(command_line(*options, "--out", out, "--overwrite", ranks=ranks), check=True,
                   capture_output=True)
    return time.monotonic() - begin


def check_one(folder, options, kills, seed, ranks):
    """Whether the bytes are equal, and a line that says what was seen."""
    duration = max(undisturbed(options, folder / "expected", count) for count in (None, max(
        count or 1 for count in ranks)))
    expected = file_sums(folder / "expected")
    out = folder / "out"
    killer = RandomKills(seed, kills, ranks)
    total = 0
    rounds = 0
    # A run that ends before its kill is complete: the next one begins anew.
    while total < kills:
        killer.kills = kills - total
        code, done = killer.run((*options, "--save-overhead", 1), out, duration)
        total += done
        rounds += 1
        if code != 0 or file_sums(out) != expected:
            return False, f"round {rounds}: exit code {code}, or other bytes"
        subprocess.run(["rm", "-rf", out, folder / "out.workspace"], check=True)
    return True, f"{total} kills in {rounds} runs, {killer.resumed} starts found saved work"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--format", default="fp8,nvfp4")
    parser.add_argument("--residency", default="stream")
    parser.add_argument("--ranks", default="1,2,3,4")
    parser.add_argument("--kills", default=20, type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("options", nargs="*", help="further options of halftone quantize")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    ranks = [None if count == "1" else int(count) for count in arguments.ranks.split(",")]
    print(f"seed {seed}", flush=True)
    failed = 0
    for name in arguments.format.split(","):
        for residency in arguments.residency.split(","):
            options = ("quantize", "--model", arguments.model, "--format", name, "--residency",
                       residency, "--threads", 1, *arguments.options)
            with tempfile.TemporaryDirectory(prefix="halftone-kills-") as folder:
                good, text = check_one(Path(folder), options, arguments.kills, seed, ranks)
            print(f"{'ok  ' if good else 'FAIL'} {arguments.model.name} {name} {residency}: {text}",
                  flush=True)
            failed += not good
    return failed


if __name__ == "__main__":
    sys.exit(main())
