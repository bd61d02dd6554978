"""Rank files written by several hosts to NFS while things go wrong: the same command goes on."""
import json
import time
import unittest

from cluster import ALL, LAUNCHER, LONG, PROGRAM, SHARED, WATCHDOG_SECONDS, ClusterTest
from halftone_cli import main

DONE, RESOURCES, PEER = 0, 4, 5
LAYOUT = ("--target", "trtllm", "--tp", 2, "--pp", 4)
FILES = 8
# Of what a host reads: slow enough for a fault to come between two files.
SLOW_MBIT = 25


class Exports(ClusterTest):
    @classmethod
    def prepare(cls):
        source = cls.folder / "source"
        cls.run_here("synthesize", "--out", source, "--layers", 8, "--hidden", 512,
                     "--intermediate", 1536, "--vocab", 2048)
        cls.run_here("quantize", "--model", source, "--format", "fp8_pc_pt", "--out",
                     cls.folder / "model", "--device", "cpu")
        cls.run_here("export", "--model", cls.folder / "model", "--out", cls.folder / "alone",
                     *LAYOUT, "--device", "cpu")

    def arguments(self, *options):
        return ("export", "--model", f"{SHARED}/model", "--out", f"{SHARED}/{self.name}/out",
                *LAYOUT, "--device", "cpu", "--threads", 1, "--watchdog-seconds", WATCHDOG_SECONDS,
                *options)

    def heal(self):
        self.lab.fault("nfs-start", check=False)
        super().heal()

    def complete_files(self, folder=".out.partial"):
        """Name -> inode and time of change, as the server has them."""
        listing = self.lab.run_on("n0", "sh", "-c",
                                  f"cd {SHARED}/{self.name}/{folder} && stat -c '%n %i %Y %Z' "
                                  "rank*.safetensors", check=False).stdout
        return {line.split()[0]: line.split()[1:3] for line in listing.splitlines()}

    def recorded(self):
        return int(self.lab.run_on("n0", "sh", "-c", f"ls {SHARED}/{self.name}/.out.manifest/"
                                   "*.complete | wc -l", check=False).stdout or 0)

    def start_slowly(self, hosts, ranks):
        for host in range(1, hosts + 1):
            self.lab.fault("rate", f"n{host}", SLOW_MBIT)
        process = self.start(hosts, ranks)
        end = time.monotonic() + 60
        while self.recorded() < 2:
            self.assertIsNone(process.poll(), "ended early")
            self.assertLess(time.monotonic(), end, "no file was complete in time")
            time.sleep(0.05)
        self.assertLess(self.recorded(), FILES, "nothing is left to interrupt")
        return process

    def goes_on(self, hosts, ranks, *options):
        """With the bytes of an undisturbed run; complete files are not written again."""
        self.lab.fault("heal")
        before, recorded = self.complete_files(), self.recorded()
        self.assertGreaterEqual(len(before), recorded)
        result = self.lab.run_on("n1", *self.mpirun_command(hosts, ranks, "--json", *options),
                                 timeout=120, check=False)
        self.assertEqual(result.returncode, DONE, result.stderr)
        self.same_bytes()
        after = self.complete_files("out")
        kept = sum(after[name] == what for name, what in before.items())
        self.assertGreaterEqual(kept, recorded)
        self.assertIn("is complete already", result.stderr)
        left = self.lab.run_on("n0", "ls", "-A", f"{SHARED}/{self.name}").stdout.split()
        self.assertEqual(sorted(set(left) - {"logs"}), ["out"])
        return json.loads(result.stdout)

    def test_a_killed_rank(self):
        process = self.start_slowly(2, 2)
        self.lab.fault("signal-rank", 2, "KILL", PROGRAM.rsplit("/", 1)[1][:15])
        text = self.ends_with(PEER, process)
        self.assertIn("rank 2 on host n2 was killed by signal 9", text)
        self.assertIn(f"assembled in '{SHARED}/{self.name}/.out.partial'", text)
        self.goes_on(2, 1)

    @unittest.skipUnless(ALL, LONG)
    def test_a_killed_daemon(self):
        process = self.start_slowly(2, 2)
        self.lab.run_on("n2", "pkill", "-KILL", "-x", "orted")
        text = self.ends_with(PEER, process)
        self.assertRegex(text, r"lost communication with a remote daemon[^#]*n2")
        self.assertIn(" of export", self.log_of(0))
        self.goes_on(1, 2)

    @unittest.skipUnless(ALL, LONG)
    def test_a_crashed_host(self):
        process = self.start_slowly(2, 1)
        self.lab.fault("crash", "n2")
        try:
            self.ends_with(PEER, process)
        finally:
            self.lab.fault("reboot", "n2", timeout=120)
        self.goes_on(2, 2)

    def test_a_full_disk(self):
        process = self.start_slowly(2, 1)
        self.lab.fault("fill")
        text = self.ends_with(RESOURCES, process)
        self.assertIn("No space left on device", text)
        self.assertRegex(text, r"\.out\.partial.*keep the files that are complete")
        self.lab.fault("unfill")
        self.goes_on(2, 2)

    def test_a_restart_of_the_server_disturbs_nothing(self):
        process = self.start_slowly(2, 1)
        self.lab.fault("heal")
        self.lab.fault("nfs-restart", 1, timeout=60)
        text = self.ends_with(DONE, process)
        self.assertNotIn(" error ", text)
        self.same_bytes()

    @unittest.skipUnless(ALL, LONG)
    def test_a_folder_of_each_host(self):
        arguments = [f"/tmp/{self.name}" if word == f"{SHARED}/{self.name}/out" else word
                     for word in self.arguments()]
        process = self.lab.start_on("n1", LAUNCHER, "--program", PROGRAM, "--hostfile",
                                    f"{SHARED}/hosts-2", "--ranks-per-host", 1, "--no-checks", "--",
                                    *arguments)
        self.started = [process]
        text = self.ends_with(RESOURCES, process)
        self.assertIn("the folder is not shared by all hosts", text)
        self.assertIn("--out", text)


if __name__ == "__main__":
    main()
