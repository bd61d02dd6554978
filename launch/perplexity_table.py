#!/usr/bin/env python3
"""Perplexity of a model in every format, as the Markdown table of the README.

  launch/perplexity_table.py --model DIR [--formats a,b] [--outliers] [-- options of evaluate]

Runs `halftone evaluate` for the original and each format. With --outliers the model first gets
activation outliers: some channels of every norm are scaled by 32 or 64 and the columns of the
linears that read them by the inverse, which leaves the function as it is.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "app"))


def run(program, *arguments):
    result = subprocess.run([program, *map(str, arguments), "--json"], capture_output=True,
                            encoding="utf-8", check=False)
    if result.returncode != 0:
        sys.exit(f"halftone {' '.join(map(str, arguments))} failed:\n{result.stderr}")
    return json.loads(result.stdout)


def perplexity(program, model, options, *more):
    return run(program, "evaluate", "--model", model, *more,
               *options)["tasks"]["perplexity"]["value"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=ROOT / "build" / "halftone")
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--formats", help="comma separated [all]")
    parser.add_argument("--outliers", action="store_true")
    parser.add_argument("options", nargs="*", help="of halftone evaluate, behind --")
    arguments = parser.parse_args()

    known = {entry["name"]: entry for entry in run(arguments.program, "formats")["formats"]}
    formats = arguments.formats.split(",") if arguments.formats else list(known)
    with tempfile.TemporaryDirectory(prefix="halftone-table-") as folder:
        model = arguments.model
        if arguments.outliers:
            from checkpoints import Checkpoint, with_outliers
            model = with_outliers(Checkpoint(model)).save(Path(folder) / "model")
        original = perplexity(arguments.program, model, arguments.options)
        print("| format | perplexity | change | |")
        print("| --- | --- | --- | --- |")
        print(f"| original | {original:.3f} | | |")
        for name in formats:
            try:
                value = perplexity(arguments.program, model, arguments.options, "--format", name)
            except SystemExit as failure:
                # A model without experts, say, has nothing for nvfp4_experts_only.
                print(str(failure.code).splitlines()[-1], file=sys.stderr)
                continue
            change = 100 * (value / original - 1)
            print(f"| `{name}` | {value:.3f} | {change:+.2f} % | {known[name]['description']} |",
                  flush=True)


if __name__ == "__main__":
    main()
