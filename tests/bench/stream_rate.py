"""Rate of `halftone quantize` on weight-only formats against `cp` of the same files, in one run.

Makes a random checkpoint with `halftone synthesize`, then copies it and quantizes it in turn. Before
each, the source's pages are given up by the page cache and everything written is on disk; each
includes the final sync of its files. Prints GB/s of the source's bytes, the share of cp's rate and
each rank's peak memory. Standard library alone:

    stream_rate.py --program build/halftone --folder /data/bench --bytes 20GB --formats int8_wo
"""
import argparse
import json
import shutil
from pathlib import Path

from measure import add_options, forget, synthesize, timed_copy, timed_ranks, weight_bytes


def timed_quantize(options, source, target, kind):
    """Seconds, the ranks' peak resident bytes, and the program's own summary."""
    forget(source)
    seconds, peaks = timed_ranks(options, source.parent, "quantize", "--model", source, "--format",
                                 kind, "--out", target, "--residency", "stream", "--device", "cpu",
                                 "--json")
    summary = json.loads((target / "summary.json").read_text())
    shutil.rmtree(target)
    shutil.rmtree(f"{target}.workspace", ignore_errors=True)
    return seconds, peaks, summary


def measure(options):
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "source"
    if not source.exists():
        synthesize(options, source, options.bytes)
    size = weight_bytes(source)
    copied = timed_copy(source, folder / "copy")
    print(f"{'cp':12} {size / 1e9:7.2f} GB {copied:7.1f} s {size / copied / 1e9:6.3f} GB/s")
    results = {}
    for kind in options.formats.split(","):
        seconds, peaks, summary = timed_quantize(options, source, folder / "quantized", kind)
        share = copied / seconds
        print(f"{kind:12} {size / 1e9:7.2f} GB {seconds:7.1f} s {size / seconds / 1e9:6.3f} GB/s "
              f"{100 * share:5.0f} % of cp, peaks "
              f"{', '.join(f'{peak / 1e9:.2f} GB' for peak in peaks)}, "
              f"{100 * summary['exposed_io']:.0f} % waiting for files", flush=True)
        results[kind] = {"seconds": seconds, "share_of_cp": share, "peak_bytes": peaks}
    if not options.keep:
        shutil.rmtree(source)
    return {"bytes": size, "cp_seconds": copied, "formats": results}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--bytes", default="20GB")
    parser.add_argument("--formats", default="int8_wo,fp8_pb_wo,w4a16_nvfp4,int4_wo")
    options = parser.parse_args()
    figures = measure(options)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
