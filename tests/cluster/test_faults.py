"""Things that go wrong between hosts: the run ends in bounded time, says what was lost, goes on."""
import re
import unittest

from cluster import ALL, LONG, PROGRAM, SHARED, ClusterTest
from halftone_cli import main

DONE, RESOURCES, PEER = 0, 4, 5


class Faults(ClusterTest):
    HOSTS = 3 if ALL else 2

    def check_named(self, log, rank, host):
        """One rank's log names the lost one, and where it was."""
        lines = [line for line in log.splitlines() if re.search(f"rank {rank} on host {host}", line)]
        self.assertTrue(lines, f"rank {rank} on {host} is not named in:\n{log}")
        self.assertTrue(any("calibrate" in line for line in lines), lines)

    def lose_a_rank(self, ranks, lost):
        process = self.start(2, ranks)
        self.until_saved(2, process)
        self.lab.fault("signal-rank", lost, "KILL", PROGRAM.rsplit("/", 1)[1][:15])
        text = self.ends_with(PEER, process)
        host = f"n{1 + lost // ranks}"
        self.assertIn(f"rank {lost} on host {host} was killed by signal 9", text)
        for rank in set(range(2 * ranks)) - {lost}:
            with self.subTest(log_of=rank):
                self.check_named(self.log_of(rank), lost, host)
        self.none_left("n1", "n2")
        self.assertGreaterEqual(self.goes_on(1, 2), 2)

    def none_left(self, *hosts):
        for host in hosts:
            left = self.lab.run_on(host, "pgrep", "-f", f"^{PROGRAM}", check=False)
            self.assertEqual(left.stdout, "", f"ranks live on on {host}")

    def test_kill_of_a_rank(self):
        self.lose_a_rank(2, 3)

    @unittest.skipUnless(ALL, LONG)
    def test_kill_of_the_only_rank_of_a_host(self):
        self.lose_a_rank(1, 1)

    @unittest.skipUnless(ALL, LONG)
    def test_kill_of_rank_0(self):
        self.lose_a_rank(2, 0)

    def lose_a_daemon(self, hosts, ranks):
        process = self.start(hosts, ranks)
        self.until_saved(2, process)
        self.lab.run_on("n2", "pkill", "-KILL", "-x", "orted")
        text = self.ends_with(PEER, process)
        self.assertRegex(text, r"lost communication with a remote daemon[^#]*n2")
        lost = set(range(ranks, 2 * ranks))
        for rank in set(range(hosts * ranks)) - lost:
            with self.subTest(log_of=rank):
                log = self.log_of(rank)
                self.assertIn("has lost its launcher", log)
                for each in lost:
                    self.check_named(log, each, "n2")
        self.none_left(*(f"n{i}" for i in range(1, hosts + 1)))

    def test_kill_of_a_hosts_daemon(self):
        self.lose_a_daemon(2, 2)
        self.assertGreaterEqual(self.goes_on(2, 1), 2)

    @unittest.skipUnless(ALL, LONG)
    def test_kill_of_the_daemon_of_one_of_three_hosts(self):
        self.lose_a_daemon(3, 1)
        self.assertGreaterEqual(self.goes_on(1, 2), 2)

    @unittest.skipUnless(ALL, LONG)
    def test_kill_of_mpirun(self):
        process = self.start(2, 2)
        self.until_saved(2, process)
        self.lab.run_on("n1", "pkill", "-KILL", "-x", "mpirun")
        self.ends_with(PEER, process)
        self.none_left("n1", "n2")
        self.assertGreaterEqual(self.goes_on(1, 2), 2)

    @unittest.skipUnless(ALL, LONG)
    def test_kill_of_a_rank_under_plain_mpirun(self):
        """mpirun kills the others at once, and returns its own code; the last word is a warning."""
        process = self.start_plain(2)
        self.until_saved(2, process)
        self.lab.fault("signal-rank", 1, "KILL", PROGRAM.rsplit("/", 1)[1][:15])
        text = self.ends_with(128 + 9, process)
        self.assertRegex(text, r"rank 0 warning asked to stop; not heard of.*: rank 1 on host n2 "
                               r"\([0-9.]+ s ago, in .* of calibrate ")
        self.none_left("n1", "n2")
        self.assertGreaterEqual(self.goes_on(2, 1), 2)

    def test_cut_between_the_hosts(self):
        process = self.start(2, 1)
        self.until_saved(2, process)
        self.lab.fault("cut", "n1", "n2")
        self.ends_with(PEER, process)
        # Each side lives and has lost the other one.
        self.check_named(self.log_of(0), 1, "n2")
        self.check_named(self.log_of(1), 0, "n1")
        self.none_left("n1", "n2")
        self.lab.fault("heal")
        self.assertGreaterEqual(self.goes_on(2, 2), 2)

    @unittest.skipUnless(ALL, LONG)
    def test_freeze_of_a_host(self):
        process = self.start(2, 2)
        self.until_saved(2, process)
        self.lab.fault("freeze", "n2")
        try:
            self.ends_with(PEER, process)
        finally:
            self.lab.fault("thaw", "n2")
        for rank in (0, 1):
            self.check_named(self.log_of(rank), "[23]", "n2")
        self.assertGreaterEqual(self.goes_on(1, 1), 2)

    @unittest.skipUnless(ALL, LONG)
    def test_crash_of_a_host(self):
        process = self.start(2, 2)
        self.until_saved(2, process)
        self.lab.fault("crash", "n2")
        try:
            self.ends_with(PEER, process)
        finally:
            self.lab.fault("reboot", "n2", timeout=120)
        self.assertGreaterEqual(self.goes_on(2, 1), 2)

    def test_delay_and_a_restart_of_the_server_disturb_nothing(self):
        process = self.start(2, 1)
        self.until_saved(1, process)
        self.lab.fault("delay", "n2", 40)
        self.until_saved(3, process)
        self.lab.fault("heal")
        self.lab.fault("nfs-restart", 1, timeout=60)
        text = self.ends_with(DONE, process)
        self.assertNotIn(" error ", text)
        self.same_bytes()

    def test_full_disk(self):
        process = self.start(2, 1)
        self.until_saved(2, process)
        self.lab.fault("fill")
        text = self.ends_with(RESOURCES, process)
        self.assertIn("No space left on device", text)
        self.assertIn(SHARED, text)
        self.lab.fault("unfill")
        self.assertGreaterEqual(self.goes_on(2, 2), 2)


if __name__ == "__main__":
    main()
