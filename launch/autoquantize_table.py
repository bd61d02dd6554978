#!/usr/bin/env python3
"""Mixed precision against uniform formats and random assignments, as the Markdown table of the README.

  launch/autoquantize_table.py --model DIR --eval FILE [--bits 4.8,5.5,6.5] [--random 20]
                               [--workspace DIR] [-- options of autoquantize]

Runs `halftone autoquantize` once for each way to score, and once more for the uniform assignments
and for random ones that use up the same bits; all share the calibration and are measured on the
same text. A random assignment starts with the smallest format everywhere and gives groups, drawn at
random, another format while the budget lasts.
"""
import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(program, *arguments):
    result = subprocess.run([program, "autoquantize", *map(str, arguments), "--json"],
                            capture_output=True, encoding="utf-8", check=False)
    if result.returncode != 0:
        sys.exit(f"halftone {' '.join(map(str, arguments))} failed:\n{result.stderr}")
    return json.loads(result.stdout)["search"]


class Budget:
    """The candidates of every group and what they cost."""

    def __init__(self, report):
        self.bits = {one["format"]: one["bits"] for one in report["candidates"]}
        self.groups = report["groups"]
        self.counted = sum(group["weights"] * group["cost_weight"] for group in self.groups)

    def of(self, formats):
        return sum(group["weights"] * group["cost_weight"] * self.bits[formats[group["name"]]]
                   for group in self.groups) / self.counted

    def uniform(self, name):
        return {group["name"]: name if name in group["scores"] else "none" for group in self.groups}

    def random(self, draw, bits):
        formats = {group["name"]: min(group["scores"], key=self.bits.get) for group in self.groups}
        moves = [(group["name"], name) for group in self.groups for name in group["scores"]]
        draw.shuffle(moves)
        for group, name in moves:
            before = formats[group]
            if self.bits[name] <= self.bits[before]:
                continue
            formats[group] = name
            if self.of(formats) > bits + 1e-9:
                formats[group] = before
        return formats


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=ROOT / "build" / "halftone")
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--eval", required=True, type=Path)
    parser.add_argument("--formats", default="nvfp4,fp8")
    parser.add_argument("--bits", default="4.8,5.5,6.5")
    parser.add_argument("--scores", default="gradient,fisher,kl")
    parser.add_argument("--random", type=int, default=20, help="assignments for each budget")
    parser.add_argument("--workspace", type=Path, help="kept; a temporary one otherwise")
    parser.add_argument("options", nargs="*", help="of halftone autoquantize, behind --")
    arguments = parser.parse_args()
    methods = arguments.scores.split(",")
    budgets = [float(bits) for bits in arguments.bits.split(",")]

    with tempfile.TemporaryDirectory(prefix="halftone-table-") as temporary:
        folder = Path(temporary)
        keep = arguments.workspace or folder

        def search(method, out, *more):
            return run(arguments.program, "--model", arguments.model, "--eval", arguments.eval,
                       "--formats", arguments.formats, "--score", method,
                       "--workspace", keep / f"workspace-{method}", "--out", folder / out, *more,
                       *arguments.options)
        reports = {method: search(method, method, "--bits", arguments.bits) for method in methods}
        report = reports[methods[0]]
        budget = Budget(report)
        draw = random.Random(1)
        others = [{"name": f"uniform-{name}", "formats": budget.uniform(name)}
                  for name in budget.bits if name != "none"]
        others += [{"name": f"random-{bits}-{i}", "formats": budget.random(draw, bits)}
                   for bits in budgets for i in range(arguments.random)]
        (folder / "others.json").write_text(json.dumps(others))
        measured = {one["name"]: one for one in search(
            methods[0], "others", "--decisions", folder / "others.json")["decisions"]}

    print("| assignment | budget | bits | stored bits | perplexity |")
    print("| --- | --- | --- | --- | --- |")
    print(f"| original | | 16 | 16 | {report['original_perplexity']:.3f} |")
    for name in (name for name in measured if name.startswith("uniform")):
        one = measured[name]
        print(f"| uniform `{name.removeprefix('uniform-')}` | | {one['bits']:.3f} "
              f"| {one['stored_bits']:.3f} | {one['perplexity']:.3f} |")
    for i, bits in enumerate(budgets):
        for method in methods:
            one = reports[method]["decisions"][i]
            print(f"| `--score {method}` | {bits} | {one['bits']:.3f} | {one['stored_bits']:.3f} "
                  f"| {one['perplexity']:.3f} |")
        drawn = sorted((one for name, one in measured.items()
                        if name.startswith(f"random-{bits}-")), key=lambda one: one["perplexity"])
        if drawn:
            print(f"| best, median of {len(drawn)} random | {bits} | {drawn[0]['bits']:.3f} "
                  f"| {drawn[0]['stored_bits']:.3f} | {drawn[0]['perplexity']:.3f}, "
                  f"{drawn[len(drawn) // 2]['perplexity']:.3f} |")


if __name__ == "__main__":
    main()
