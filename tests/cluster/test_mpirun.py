"""launch/mpirun.sh over hosts that share nothing but an NFS workspace."""
import unittest

from cluster import ALL, LAUNCHER, LONG, PROGRAM, SHARED, ClusterTest
from halftone_cli import main


class OverHosts(ClusterTest):
    HOSTS = 4

    @unittest.skipUnless(ALL, LONG)
    def test_two_hosts(self):
        self.assertEqual(self.goes_on(2, 1), 0)

    def test_four_hosts(self):
        self.assertEqual(self.goes_on(4, 1), 0)

    @unittest.skipUnless(ALL, LONG)
    def test_four_hosts_with_two_ranks_each(self):
        self.assertEqual(self.goes_on(4, 2), 0)

    def test_stopped_by_a_signal_it_goes_on_elsewhere(self):
        process = self.start(2, 1)
        self.until_saved(2, process)
        self.lab.run_on("n1", "pkill", "-TERM", "-f", f"^bash {LAUNCHER}")
        self.ends_with(75, process)
        self.assertGreaterEqual(self.goes_on(1, 1), 2)

    def refuse(self, code, fragments, *launcher, arguments=()):
        command = (LAUNCHER, "--program", PROGRAM, *launcher, "--",
                   *(arguments or self.arguments()))
        result = self.lab.run_on("n1", *command, check=False)
        self.assertEqual(result.returncode, code, result.stderr)
        errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
        self.assertEqual(len(errors), 1, result.stderr)
        for fragment in fragments:
            self.assertIn(fragment, errors[0])

    def test_hosts_that_cannot_take_part(self):
        self.lab.run_on("n1", "sh", "-c", f"printf 'n1\\nn9\\n' >{SHARED}/unknown")
        with self.subTest("a host that is not there"):
            self.refuse(5, ["host n9", "ssh"], "--hostfile", f"{SHARED}/unknown")
        two = ("--hostfile", f"{SHARED}/hosts-2")
        with self.subTest("another build"):
            self.lab.run_on("n1", "cp", "/bin/true", "/opt/program")
            self.lab.run_on("n2", "cp", "/bin/false", "/opt/program")
            self.refuse(2, ["host n2", "/opt/program", "bytes"], "--program", "/opt/program", *two)
        with self.subTest("a workspace of each host's own"):
            arguments = [word if not str(word).endswith("/work") else "/opt/work"
                         for word in self.arguments()]
            self.refuse(4, ["host n2", "/opt"], *two, arguments=arguments)
        with self.subTest("no room"):
            self.refuse(4, ["n1", SHARED, "left"], "--min-free", "500T", *two)

    def test_each_rank_has_its_share_of_the_cores(self):
        self.lab.run_on("n1", "sh", "-c", f"cat >{SHARED}/where && chmod +x {SHARED}/where",
                        input="#!/bin/sh\necho $(uname -n) $(nproc) $*\n")
        command = (LAUNCHER, "--hostfile", f"{SHARED}/hosts-2", "--program", f"{SHARED}/where")
        cores = int(self.lab.run_on("n1", "nproc").stdout)
        for ranks in {1, min(2, cores)}:
            result = self.lab.run_on("n1", *command, "--ranks-per-host", ranks, "--", "go")
            lines = [line.split() for line in result.stdout.splitlines()]
            self.assertEqual(sorted(line[0] for line in lines),
                             sorted(["n1", "n2"] * ranks), result.stdout)
            for _, bound, *arguments in lines:
                self.assertLessEqual(int(bound) * ranks, cores)
                self.assertEqual(arguments[:2], ["go", "--threads"])
                self.assertLessEqual(int(arguments[2]), int(bound))  # cores may have two threads

    def test_exit_codes_are_the_programs(self):
        wrong = {2: (*self.arguments(), "--no-such-option"),
                 3: [f"{SHARED}/nothing" if word == f"{SHARED}/model" else word
                     for word in self.arguments()]}
        for code, arguments in wrong.items():
            with self.subTest(code=code):
                result = self.lab.run_on(
                    "n1", LAUNCHER, "--program", PROGRAM, "--hostfile", f"{SHARED}/hosts-2", "--",
                    *arguments, check=False)
                self.assertEqual(result.returncode, code, result.stderr)


if __name__ == "__main__":
    main()
