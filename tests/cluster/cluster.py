"""Several hosts with a real NFS workspace and a real Slurm on this machine (tests/lab), for the tests.

The lab goes down with this process, however it ends. HALFTONE_CLUSTER_ALL=1 adds the long tests.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "app"))

from checkpoints import Checkpoint  # noqa: E402
from halftone_cli import PROGRAM, command_line, file_sums  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
LAB = ROOT / "tests" / "lab" / "lab"
LAUNCHER = ROOT / "launch" / "mpirun.sh"
JOB_SCRIPT = ROOT / "launch" / "slurm.sbatch"
SHARED = "/mnt/nfs"
ALL = os.environ.get("HALFTONE_CLUSTER_ALL") == "1"
LONG = "a long one: tests/cluster/run.sh --all"

WATCHDOG_SECONDS = 5
# What a launcher needs beyond that to end a run whose hosts do not answer.
ENDED_WITHIN = 60
LAYERS = 12
# Slow enough for a fault to come between two stages; every stage is saved.
CALIBRATION = ("--calib-samples", 256, "--calib-length", 256, "--batch-size", 4, "--threads", 1,
               "--device", "cpu")
OPTIONS = (*CALIBRATION, "--watchdog-seconds", WATCHDOG_SECONDS, "--save-overhead", 1)


def why_not():
    """Why there can be no lab here; None when there can."""
    if os.geteuid() != 0:
        return "a lab of several hosts needs root"
    needed = ("ganesha.nfsd", "sshd", "nft", "rpcbind", "munged", "slurmctld", "slurmd", "mpicc",
              "unshare", "nsenter", "mkfs.ext4")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in needed if not shutil.which(name, path=path)]
    if missing:
        return f"not installed: {', '.join(missing)} (as root: tests/lab/lab install --no-uml)"
    for what, probe in (("namespaces", ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid",
                                        "--fork", "true"]),
                        ("loop devices", ["losetup", "-f"])):
        result = subprocess.run(probe, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            return f"no {what} for root here: {result.stderr.strip()}"
    if not os.path.exists("/dev/fuse") and "nfs4" not in Path("/proc/filesystems").read_text():
        return "the kernel has neither an NFS client nor FUSE"
    return None


class Lab:
    def __init__(self, hosts):
        self.hosts = hosts
        self.environment = {**os.environ, "LAB_NAME": f"halftone-{os.getpid()}"}
        self.environment.pop("HALFTONE_PROGRAM", None)
        self.guardian = None

    def up(self):
        # Ends with this process' standard input to it, even when that is killed; its own parent is
        # process 1, so that ctest does not find it among the children of the test.
        reading, self.guardian = os.pipe()
        subprocess.run(["setsid", "-f", "sh", "-c", f"read -r _; exec {LAB} down"], stdin=reading,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       env=self.environment, check=True)
        os.close(reading)
        self.command("up", "--hosts", self.hosts, "--bind", ROOT, timeout=120)

    def down(self):
        try:
            self.command("down", timeout=60)
        finally:
            os.close(self.guardian)

    def command(self, *arguments, timeout=60, check=True, **options):
        result = subprocess.run([LAB, *map(str, arguments)], capture_output=True, text=True,
                                errors="replace", timeout=timeout, env=self.environment,
                                cwd=ROOT, check=False, **options)
        if check and result.returncode != 0:
            raise AssertionError(f"lab {arguments}: {result.returncode}\n{result.stdout}\n"
                                 f"{result.stderr}")
        return result

    def run_on(self, host, *command, **options):
        return self.command("exec", host, *command, **options)

    def start_on(self, host, *command):
        """The output goes to a file: a pipe would be held open by what a fault leaves behind."""
        output = tempfile.TemporaryFile(mode="w+", errors="replace")
        process = subprocess.Popen([LAB, "exec", host, *map(str, command)], stdout=output,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   env=self.environment, cwd=ROOT)
        process.output = output
        return process

    def fault(self, *arguments, **options):
        return self.command("fault", *arguments, **options)

    def shared(self, path):
        """The text of a file as the server has it; empty when it isn't there."""
        return self.run_on("n0", "cat", f"{SHARED}/{path}", check=False).stdout


def make_model(folder):
    """nano-llama with more layers, those it has over and over."""
    model = Checkpoint()
    own = model.config["num_hidden_layers"]
    model.config["num_hidden_layers"] = LAYERS
    for name in list(model.tensors):
        if not name.startswith("model.layers."):
            continue
        index, rest = name.split(".", 3)[2:]
        for layer in range(int(index) + own, LAYERS, own):
            model.tensors[f"model.layers.{layer}.{rest}"] = model.tensors[name]
    return model.save(folder)


def output_of(process):
    process.output.seek(0)
    return process.output.read()


class ClusterTest(unittest.TestCase):
    """One lab for the tests of a class, with the model on its NFS and the bytes expected."""

    HOSTS = 2

    @classmethod
    def setUpClass(cls):
        reason = why_not()
        if reason:
            raise unittest.SkipTest(reason)
        cls.folder = Path(tempfile.mkdtemp(prefix="halftone-cluster-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.prepare()
        cls.expected = file_sums(cls.folder / "alone")
        cls.lab = Lab(cls.HOSTS)
        cls.addClassCleanup(cls.lab.down)
        cls.lab.up()
        with subprocess.Popen(["tar", "-C", cls.folder, "-cf", "-", "model"],
                              stdout=subprocess.PIPE) as tar:
            cls.lab.run_on("n1", "tar", "-C", SHARED, "-xf", "-", stdin=tar.stdout)
        for hosts in range(1, cls.HOSTS + 1):
            text = "".join(f"n{i} slots=2\n" for i in range(1, hosts + 1))
            cls.lab.run_on("n1", "sh", "-c", f"cat >{SHARED}/hosts-{hosts}", input=text)

    @classmethod
    def prepare(cls):
        """The model, and what becomes of it on this machine alone."""
        make_model(cls.folder / "model")
        cls.run_here("quantize", "--model", cls.folder / "model", "--format", "fp8", "--out",
                     cls.folder / "alone", *CALIBRATION)

    @staticmethod
    def run_here(*arguments):
        subprocess.run(command_line(*arguments), check=True, capture_output=True, timeout=300)

    def setUp(self):
        self.name = self.id().rsplit(".", 1)[1]
        self.addCleanup(self.heal)

    def heal(self):
        self.lab.fault("heal", check=False)
        self.lab.fault("unfill", check=False)
        for process in getattr(self, "started", []):
            process.kill()

    def arguments(self, *options):
        """Of the program."""
        return ("quantize", "--model", f"{SHARED}/model", "--format", "fp8",
                "--out", f"{SHARED}/{self.name}/out", "--workspace", f"{SHARED}/{self.name}/work",
                *OPTIONS, *options)

    def mpirun_command(self, hosts, ranks, *options, launcher=()):
        return (LAUNCHER, "--program", PROGRAM, "--hostfile", f"{SHARED}/hosts-{hosts}",
                "--ranks-per-host", ranks, *launcher, "--", *self.arguments(*options))

    def start(self, hosts, ranks):
        """`ranks` on each host; each rank's output is kept for log_of()."""
        self.lab.run_on("n1", "mkdir", "-p", f"{SHARED}/{self.name}")
        process = self.lab.start_on("n1", *self.mpirun_command(
            hosts, ranks, launcher=("--log-dir", f"{SHARED}/{self.name}/logs")))
        self.started = [*getattr(self, "started", []), process]
        return process

    def start_plain(self, hosts):
        """One rank on each host, by mpirun itself."""
        self.lab.run_on("n1", "mkdir", "-p", f"{SHARED}/{self.name}")
        process = self.lab.start_on("n1", "mpirun", "--hostfile", f"{SHARED}/hosts-{hosts}",
                                    "--map-by", "ppr:1:node", "--bind-to", "none", PROGRAM,
                                    *self.arguments())
        self.started = [*getattr(self, "started", []), process]
        return process

    def saved_stages(self):
        try:
            manifest = json.loads(self.lab.shared(f"{self.name}/work/manifest.json").split("\n")[0])
        except ValueError:
            return 0
        return len(manifest["finished"])

    def until_saved(self, stages, process=None, timeout=60):
        end = time.monotonic() + timeout
        while self.saved_stages() < stages:
            if process and process.poll() is not None:
                self.fail(f"ended early with {process.returncode}:\n{output_of(process)}")
            self.assertLess(time.monotonic(), end, "no stage was saved in time")
            time.sleep(0.05)

    def ends_with(self, code, process, within=ENDED_WITHIN):
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            self.fail(f"still running after {within} s:\n{output_of(process)}")
        text = output_of(process)
        self.assertEqual(process.returncode, code, text)
        return text

    def log_of(self, rank):
        """What the rank wrote to its standard error, wherever its host's link to mpirun is cut."""
        found = self.lab.run_on("n0", "sh", "-c",
                                f"cat {SHARED}/{self.name}/logs/*/rank.*{rank}/stderr", check=False)
        return found.stdout

    def goes_on(self, hosts, ranks, *options):
        """The same command on other ranks ends with the expected bytes, and did not begin anew."""
        self.lab.run_on("n1", "mkdir", "-p", f"{SHARED}/{self.name}")
        result = self.lab.run_on("n1", *self.mpirun_command(hosts, ranks, "--json", *options),
                                 timeout=120, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.same_bytes()
        return json.loads(result.stdout)["resumed_from_stage"]

    def same_bytes(self):
        out = f"{SHARED}/{self.name}/out"
        lines = self.lab.run_on("n0", "sh", "-c", f"cd {out} && find * -type f ! -name summary.json "
                                "-exec sha256sum {} +").stdout.splitlines()
        sums = {name: digest for digest, name in (line.split() for line in lines)}
        self.assertEqual(sums, self.expected)
