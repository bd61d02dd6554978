"""launch/slurm.sbatch under a real Slurm: requeued and pre-empted jobs end with the same bytes."""
import re
import time
import unittest

from cluster import ALL, JOB_SCRIPT, LONG, PROGRAM, SHARED, ClusterTest
from halftone_cli import main


class Slurm(ClusterTest):
    def submit(self, *sbatch_options, ranks=1):
        self.lab.run_on("n1", "mkdir", "-p", f"{SHARED}/{self.name}")
        result = self.lab.command(
            "sbatch", "--parsable", "-N", 2, "-o", f"{SHARED}/{self.name}/job.log",
            f"--export=ALL,HALFTONE={PROGRAM},RANKS_PER_NODE={ranks}", *sbatch_options,
            JOB_SCRIPT, *self.arguments())
        job = result.stdout.strip()
        self.addCleanup(self.lab.command, "scancel", job, check=False)
        return job

    def log(self):
        return self.lab.shared(f"{self.name}/job.log")

    def state(self, job):
        text = self.lab.command("scontrol", "show", "job", job).stdout
        return re.search(r"JobState=(\w+)", text).group(1)

    def until_state(self, job, state, timeout=120):
        end = time.monotonic() + timeout
        while (now := self.state(job)) != state:
            self.assertLess(time.monotonic(), end, f"job {job} is {now}, not {state}:\n{self.log()}")
            self.assertNotIn(now, ("FAILED", "CANCELLED", "TIMEOUT"), self.log())
            time.sleep(0.3)

    def resumed(self):
        log = self.log()
        self.assertIn("an interrupted run is resumed", log)
        self.same_bytes()
        return log

    @unittest.skipUnless(ALL, LONG)
    def test_requeue(self):
        job = self.submit()
        self.until_saved(2)
        self.lab.command("scontrol", "requeue", job)
        self.until_state(job, "COMPLETED")
        self.resumed()

    def test_preemption(self):
        job = self.submit("--signal=B:USR1@60")
        self.until_saved(2)
        urgent = self.lab.command("sbatch", "--parsable", "-p", "urgent", "-N", 2, "-o", "/dev/null",
                                  "--exclusive", "--wrap", "sleep 1").stdout.strip()
        self.until_state(urgent, "COMPLETED")
        self.until_state(job, "COMPLETED")
        self.assertIn("the job asks to be run again", self.resumed())

    def test_lost_ranks_are_answered_by_a_requeue(self):
        job = self.submit(ranks=2)
        self.until_saved(2)
        self.lab.fault("signal-rank", 1, "KILL", PROGRAM.rsplit("/", 1)[1][:15])
        self.until_state(job, "COMPLETED")
        self.assertIn("a peer was lost (1 of 3)", self.resumed())

    def count_nodes_anew(self):
        """Slurm 22.05 may take a node that was down and came back for busy for ever ("gres/gpu: job 1
        dealloc of node n2 bad node_offset")."""
        self.lab.command("scontrol", "reconfigure")

    @unittest.skipUnless(ALL, LONG)
    def test_crash_of_a_node(self):
        self.addCleanup(self.count_nodes_anew)
        job = self.submit("-w", "n1,n2")
        self.until_saved(2)
        self.lab.fault("crash", "n2")
        try:
            self.until_state(job, "PENDING", timeout=90)
        finally:
            self.lab.fault("reboot", "n2", timeout=120)
        self.until_state(job, "COMPLETED")
        self.resumed()

    def start_slurmd(self):
        self.lab.run_on("n2", "sh", "-c", "pgrep -x slurmd || slurmd -N n2")

    @unittest.skipUnless(ALL, LONG)
    def test_crash_of_slurmd_alone(self):
        """The ranks of that node live on; Slurm gives the node up, ends the others, and requeues."""
        self.addCleanup(self.count_nodes_anew)
        job = self.submit("-w", "n1,n2")
        self.until_saved(2)
        self.lab.fault("delay", "n2", 200)  # for a job that lasts longer than Slurm's patience
        self.addCleanup(self.start_slurmd)
        self.lab.run_on("n2", "pkill", "-KILL", "-x", "slurmd")
        self.until_state(job, "PENDING", timeout=90)
        self.assertIn("Node failure on n2", self.log())
        self.lab.fault("heal")
        self.start_slurmd()
        self.until_state(job, "COMPLETED")
        self.resumed()

    @unittest.skipUnless(ALL, LONG)
    def test_slurmd_that_comes_back_in_time(self):
        job = self.submit("-w", "n1,n2")
        self.until_saved(2)
        self.addCleanup(self.start_slurmd)
        self.lab.run_on("n2", "pkill", "-KILL", "-x", "slurmd")
        time.sleep(2)
        self.assertEqual(self.state(job), "RUNNING")
        self.start_slurmd()
        self.until_state(job, "COMPLETED")
        self.assertNotIn("an interrupted run is resumed", self.log())
        self.same_bytes()

    def test_wrong_usage_is_not_tried_again(self):
        self.lab.run_on("n1", "mkdir", "-p", f"{SHARED}/{self.name}")
        job = self.lab.command(
            "sbatch", "--parsable", "-N", 2, "-o", f"{SHARED}/{self.name}/job.log",
            f"--export=ALL,HALFTONE={PROGRAM},RANKS_PER_NODE=1", JOB_SCRIPT, *self.arguments(),
            "--no-such-option").stdout.strip()
        end = time.monotonic() + 60
        while self.state(job) in ("PENDING", "RUNNING", "COMPLETING"):
            self.assertLess(time.monotonic(), end, self.log())
            time.sleep(0.3)
        text = self.lab.command("scontrol", "show", "job", job).stdout
        self.assertIn("JobState=FAILED", text)
        self.assertIn("ExitCode=2:0", text)
        self.assertIn("Restarts=0", text)


if __name__ == "__main__":
    main()
