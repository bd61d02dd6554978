"""Rate of `halftone export` between a unified checkpoint and TensorRT-LLM's layout, both ways, against
`cp` of the same files, in one run.

Makes a random checkpoint with `halftone synthesize` and quantizes it once; then copies the result
and re-shards it in turn. Before each, the page cache gives up the source's pages and everything
written is on the disk; each includes the final sync of its files. Prints GB/s of the source's
bytes, the share of cp's rate, and how far each rank's peak memory lies above that of a run that
re-shards next to nothing, in largest tensors. Standard library alone:

    reshard_rate.py --program build/halftone --folder /data/bench --bytes 10GB --layouts 2x2,4x1
"""
import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from measure import add_options, forget, synthesize, timed_copy, timed_ranks, weight_bytes


def largest_tensor(folder):
    largest = 0
    for path in Path(folder).glob("*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                largest = max(largest, tensor["data_offsets"][1] - tensor["data_offsets"][0])
    return largest


def quantized(options, folder, size, *shape):
    """A unified checkpoint of about so many bytes, made of one about twice as large."""
    unified = folder / f"unified-{size}"
    if unified.exists():
        return unified
    source = folder / f"source-{size}"
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]+)", size).groups()
    synthesize(options, source, f"{options.shrinks * float(number):g}{unit}", *shape)
    subprocess.run([options.program, "quantize", "--model", source, "--format", options.format,
                    "--fused-scales", "--out", unified, "--device", "cpu", "--residency", "stream"],
                   check=True, stdout=sys.stderr)
    shutil.rmtree(source)
    shutil.rmtree(f"{unified}.workspace", ignore_errors=True)
    return unified


class Measured:
    """Conversions of one checkpoint, with the copy that they are measured against."""

    def __init__(self, options, folder, base_peak):
        self.options, self.folder, self.base_peak = options, folder, base_peak
        self.figures = {}

    def measure(self, name, source, target, *arguments):
        size, largest = weight_bytes(source), largest_tensor(source)
        copied = timed_copy(source, self.folder / "copy")
        forget(source)
        seconds, peaks = timed_ranks(self.options, self.folder, "export", "--model", source, "--out",
                                     target, "--device", "cpu", *arguments)
        above = (peaks[-1] - self.base_peak) / largest
        print(f"{name:12} {size / 1e9:6.2f} GB  cp {copied:6.1f} s {size / copied / 1e9:6.3f} GB/s  "
              f"export {seconds:6.1f} s {size / seconds / 1e9:6.3f} GB/s = "
              f"{100 * copied / seconds:4.0f} % of cp, peak {peaks[-1] / 1e9:.2f} GB, "
              f"{above:.2f} x the largest tensor ({largest / 1e6:.0f} MB) above "
              f"{self.base_peak / 1e9:.2f} GB", flush=True)
        self.figures[name] = {"bytes": size, "cp_seconds": copied, "seconds": seconds,
                              "share_of_cp": copied / seconds, "peak_bytes": peaks,
                              "above_in_largest_tensors": above}


def measure(options):
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    small = quantized(options, folder, "20MB", "--hidden", 512, "--intermediate", 1536,
                      "--vocab", 2048)
    base = Measured(options, folder, 0)
    base.measure("start", small, folder / "small", "--target", "trtllm")
    shutil.rmtree(folder / "small")
    measured = Measured(options, folder, base.figures["start"]["peak_bytes"][-1])
    unified = quantized(options, folder, options.bytes)
    for layout in options.layouts.split(","):
        tp, pp = layout.split("x")
        ranks = folder / "ranks"
        measured.measure(f"to {layout}", unified, ranks, "--target", "trtllm", "--tp", tp, "--pp", pp)
        measured.measure(f"from {layout}", ranks, folder / "back")
        shutil.rmtree(ranks)
        shutil.rmtree(folder / "back")
    if not options.keep:
        shutil.rmtree(unified)
        shutil.rmtree(small)
    return measured.figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--bytes", default="10GB", help="of the unified checkpoint, about")
    parser.add_argument("--format", default="fp8_pc_pt")
    parser.add_argument("--shrinks", type=float, default=2.0, help="source over unified")
    parser.add_argument("--layouts", default="2x2,4x1")
    options = parser.parse_args()
    figures = measure(options)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
