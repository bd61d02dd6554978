"""Rate of `halftone quantize` on weight-only formats against `cp` of the same files, in one run.

Makes a random checkpoint with `halftone synthesize`, then copies it and quantizes it in turn. Before
each, the source's pages are given up by the page cache and everything written is on disk; each
includes the final sync of its files. Prints GB/s of the source's bytes, the share of cp's rate and
each rank's peak memory. Standard library alone:

    stream_rate.py --program build/halftone --folder /data/bench --bytes 20GB --formats int8_wo
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path


def forget(folder):
    """Gives up the page cache's copy of all files of a folder."""
    os.sync()
    for path in Path(folder).iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def sync_files(folder):
    for path in Path(folder).iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def timed_copy(source, target):
    forget(source)
    start = time.monotonic()
    subprocess.run(["cp", "-r", source, target], check=True)
    sync_files(target)
    seconds = time.monotonic() - start
    shutil.rmtree(target)
    return seconds


def timed_quantize(options, source, target, kind):
    """Seconds, the ranks' peak resident bytes, and the program's own summary."""
    forget(source)
    # Each rank runs under a parent of its own, which asks the system for the child's peak. It goes
    # into a file: a launcher may mix or drop what its ranks print as they end.
    peak_folder = source.parent / "peaks"
    peak_folder.mkdir()
    wrapper = ("import os, resource, subprocess, sys; code = subprocess.call(sys.argv[2:]);"
               "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024;"
               "open(f'{sys.argv[1]}/{os.getpid()}', 'w').write(str(peak)); sys.exit(code)")
    line = [options.mpiexec, "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n",
            str(options.ranks), sys.executable, "-c", wrapper, peak_folder, options.program,
            "quantize", "--model", source, "--format", kind, "--out", target, "--residency",
            "stream", "--device", "cpu", "--json"]
    start = time.monotonic()
    result = subprocess.run([str(word) for word in line], capture_output=True, text=True,
                            check=False)
    seconds = time.monotonic() - start
    if result.returncode != 0:
        raise RuntimeError(f"{kind}: exit code {result.returncode}\n{result.stderr}")
    peaks = sorted(int(path.read_text()) for path in peak_folder.iterdir())
    shutil.rmtree(peak_folder)
    summary = json.loads((target / "summary.json").read_text())
    shutil.rmtree(target)
    shutil.rmtree(f"{target}.workspace", ignore_errors=True)
    return seconds, peaks, summary


def measure(options):
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "source"
    if not source.exists():
        subprocess.run([options.program, "synthesize", "--out", source, "--bytes", options.bytes,
                        *options.shape.split()], check=True, stdout=sys.stderr)
    size = sum(path.stat().st_size for path in source.glob("*.safetensors"))
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
    parser.add_argument("--program", default=os.environ.get("HALFTONE_PROGRAM"))
    parser.add_argument("--mpiexec", default=os.environ.get("HALFTONE_MPIEXEC", "mpirun"))
    parser.add_argument("--folder", required=True, help="on the disk to measure")
    parser.add_argument("--bytes", default="20GB")
    parser.add_argument("--shape", default="", help="further options of synthesize")
    parser.add_argument("--formats", default="int8_wo,fp8_pb_wo,w4a16_nvfp4,int4_wo")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="keep the random checkpoint")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    options = parser.parse_args()
    figures = measure(options)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
