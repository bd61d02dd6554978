"""What the benchmarks of file rates share: a cold page cache, cp, and ranks with their peak memory."""
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path


def files_below(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def weight_bytes(folder):
    return sum(path.stat().st_size for path in files_below(folder) if path.suffix == ".safetensors")


def forget(folder):
    """Gives up the page cache's copy of all files of a folder."""
    os.sync()
    for path in files_below(folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def sync_files(folder):
    for path in files_below(folder):
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


def timed_ranks(options, folder, *arguments):
    """Seconds of the program on options.ranks ranks, and their peak resident bytes."""
    # Each rank runs under a parent of its own, which asks the system for the child's peak. It goes
    # into a file: a launcher may mix or drop what its ranks print as they end.
    peak_folder = Path(folder) / "peaks"
    peak_folder.mkdir()
    wrapper = ("import os, resource, subprocess, sys; code = subprocess.call(sys.argv[2:]);"
               "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024;"
               "open(f'{sys.argv[1]}/{os.getpid()}', 'w').write(str(peak)); sys.exit(code)")
    line = [options.mpiexec, "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n",
            options.ranks, sys.executable, "-c", wrapper, peak_folder, options.program, *arguments]
    start = time.monotonic()
    result = subprocess.run([str(word) for word in line], capture_output=True, text=True,
                            check=False)
    seconds = time.monotonic() - start
    if result.returncode != 0:
        raise RuntimeError(f"{arguments}: exit code {result.returncode}\n{result.stderr}")
    peaks = sorted(int(path.read_text()) for path in peak_folder.iterdir())
    shutil.rmtree(peak_folder)
    return seconds, peaks


def synthesize(options, source, size, *shape):
    line = [options.program, "synthesize", "--out", source, "--bytes", size,
            *options.shape.split(), *shape]
    subprocess.run([str(word) for word in line], check=True, stdout=sys.stderr)


def add_options(parser):
    parser.add_argument("--program", default=os.environ.get("HALFTONE_PROGRAM"))
    parser.add_argument("--mpiexec", default=os.environ.get("HALFTONE_MPIEXEC", "mpirun"))
    parser.add_argument("--folder", required=True, help="on the disk to measure")
    parser.add_argument("--shape", default="", help="further options of synthesize")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="keep what is measured with")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
