"""halftone plan, budgets, and memory as predicted against memory as measured."""
import resource
import subprocess
import time

from halftone_cli import (CliTest, NANO_LLAMA, RESOURCES, USAGE, command_line, main,
                          summary_of)

TOLERANCE = 0.25  # as the allocator varies from run to run


class Plan(CliTest):
    def plan(self, *arguments, ranks=None):
        return self.succeed_json("plan", "--model", NANO_LLAMA, *arguments, ranks=ranks)

    def quantize_json(self, *arguments, ranks=None):
        return self.succeed_json("quantize", "--model", NANO_LLAMA, "--out", self.folder / "out",
                                 "--overwrite", *arguments, ranks=ranks)

    def test_predicted_against_measured(self):
        for formats, ranks, samples, batch in (("fp8", None, 64, 8), ("nvfp4", 2, 64, 8),
                                               ("int4_awq", None, 32, 4), ("fp8", None, 16, 1)):
            with self.subTest(formats=formats, ranks=ranks, batch=batch):
                options = ("--format", formats, "--calib-samples", samples, "--batch-size", batch,
                           "--threads", 1)
                result = self.quantize_json(*options, ranks=ranks)
                predicted = result["memory"]["predicted"]
                measured = result["memory"]["measured"]["host_bytes"]
                self.assertEqual(measured, result["peak_memory"]["host_bytes"])
                parts = sum(part["host_bytes"] for part in predicted["parts"].values())
                self.assertEqual(parts, predicted["host_bytes"])
                self.assertIsNone(result["rows_per_call"])
                planned = self.plan(*options, ranks=ranks)["memory"]["host_bytes"]
                for bytes_predicted in (predicted["host_bytes"], planned):
                    self.assertLess(abs(bytes_predicted / measured - 1), TOLERANCE)
                summary = summary_of(self.folder / "out")
                self.assertEqual(summary["memory"], result["memory"])

    def test_what_a_plan_says(self):
        plan = self.plan("--format", "fp8,nvfp4", "--ranks", 4, "--ranks-per-host", 2,
                         "--read-bandwidth", "1GB", "--write-bandwidth", "500MB",
                         "--network-bandwidth", "2GB", "--flops", "1e12")
        self.assertTrue(plan["fits"])
        self.assertIsNone(plan["problem"])
        self.assertEqual((plan["ranks"], plan["hosts"]), (4, 2))
        self.assertEqual(plan["residency"], "stream")
        self.assertEqual(list(plan["phases"]), ["load", "forward", "reduce", "solve", "pack",
                                                "write", "save"])
        self.assertEqual(plan["rates"]["read"], 1e9)
        load = plan["phases"]["load"]
        # Two hosts read; each rank receives three quarters.
        seconds = load["disk_bytes"] / 2e9 + load["network_bytes"] / 2e9
        self.assertAlmostEqual(load["seconds"], seconds, places=9)
        self.assertAlmostEqual(load["network_bytes"] / load["disk_bytes"], 0.75, places=3)
        written = self.quantize_json("--format", "fp8,nvfp4", "--calib-samples", 4)
        files = sum(path.stat().st_size for output in written["outputs"]
                    for path in (self.folder / "out" / output["format"]).glob("*.safetensors"))
        self.assertEqual(plan["disk"]["output_bytes"], files)
        self.assertEqual(plan["disk"]["layout_bytes"], 0)
        ranks = self.plan("--format", "fp8", "--calib-samples", 4, "--target", "trtllm", "--tp", 4)
        self.assertGreater(ranks["disk"]["layout_bytes"], 0.9 * ranks["disk"]["output_bytes"])
        self.assertGreater(ranks["phases"]["reshard"]["seconds"], 0)

    def test_measured_rates(self):
        plan = self.plan("--format", "fp8", "--measure", "--out", self.folder / "o", ranks=2)
        for rate in ("read", "write", "network", "memory", "flops"):
            self.assertGreater(plan["rates"][rate], 1e6)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_plan_for_gpus_that_are_elsewhere(self):
        plan = self.plan("--format", "fp8", "--device", "cuda", "--gpu-memory", "80GB",
                         "--ranks", 16)
        self.assertEqual(plan["hosts"], 2)
        self.assertGreater(plan["memory"]["device_bytes"], 0)
        self.assertEqual(plan["budget"]["device_bytes"], 80_000_000_000)
        error = self.refuse(RESOURCES, [], "plan", "--model", NANO_LLAMA, "--format", "fp8", "--device",
                               "cuda", "--gpu-memory", "20MB")
        self.assertIn("of device memory per rank, the budget is 20.0 MB", error)

    def test_the_smallest_change_is_one_that_works(self):
        work = ("--format", "fp8", "--calib-samples", 256, "--threads", 1)
        needed = self.plan(*work)["memory"]["host_bytes"]
        budget = ("--host-budget", int(needed * 0.75))
        error = self.refuse(RESOURCES, [], "plan", "--model", NANO_LLAMA, *work, *budget)
        self.assertIn("of host memory per rank", error)
        ranks = int(error.split("at least ")[1].split(" ranks")[0])
        self.assertGreater(ranks, 1)
        self.assertTrue(self.plan(*work, *budget, "--ranks", ranks)["fits"])
        self.refuse(RESOURCES, [], "plan", "--model", NANO_LLAMA, *work, *budget, "--ranks", ranks - 1)

    def test_a_prediction_over_the_budget_stops_before_anything_is_written(self):
        for option in ("--host-budget", "--memory-budget"):
            error = self.refuse(RESOURCES, [], "quantize", "--model", NANO_LLAMA, "--format", "fp8", "--out",
                                   self.folder / "out", "--device", "cpu", option, "150MB")
            self.assertIn("the budget is 150.0 MB", error)
            self.assertEqual(list(self.folder.iterdir()), [])

    def test_sizes(self):
        for text in ("12XB", "GB", "-1GB", "0", "1e30GB", "nan"):
            self.refuse(USAGE, [], "plan", "--model", NANO_LLAMA, "--format", "fp8", "--host-budget",
                           text)
        plan = self.plan("--format", "fp8", "--calib-samples", 8, "--host-budget", "1.5GiB")
        self.assertEqual(plan["budget"]["host_bytes"], 3 * 2**29)

    def test_no_room_for_the_output(self):
        error = self.refuse(RESOURCES, [], "plan", "--model", NANO_LLAMA, "--format", "fp8",
                               "--calib-samples", 90_000_000, "--host-budget", "999TB",
                               "--out", self.folder / "out")
        self.assertIn("choose another --workspace", error)

    def test_evaluation(self):
        work = ("evaluate", "--model", NANO_LLAMA, "--data-samples", 32, "--batch-size", 8,
                "--threads", 1)
        memory = self.succeed_json(*work)["memory"]
        measured = memory["measured"]["host_bytes"]
        self.assertLess(abs(memory["predicted"]["host_bytes"] / measured - 1), TOLERANCE)
        error = self.refuse(RESOURCES, ["--host-budget"], *work, "--host-budget", "20MB")
        self.assertIn("the budget is 20.0 MB", error)

    def test_a_batch_that_does_not_fit_is_computed_in_parts(self):
        work = ("quantize", "--model", NANO_LLAMA, "--format", "fp8", "--calib-samples", 64,
                "--threads", 1, "--overwrite", "--out", self.folder / "out")
        small = address_space_of(command_line(*work, "--batch-size", 4))
        # A batch of 64 takes far more than this for its activations.
        limit = small + 60_000_000
        result = subprocess.run(command_line(*work, "--batch-size", 64, "--json"),
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS,
                                                                      (limit, limit)),
                                capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = summary_of(self.folder / "out")["rows_per_call"]
        self.assertIn(rows, (32, 16, 8, 4, 2, 1))
        self.assertIn("rows at a time from here on", result.stderr)


def address_space_of(command):
    """The largest address space that a run has had, in bytes."""
    largest = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
                for line in file:
                    if line.startswith("VmPeak:"):
                        largest = max(largest, 1024 * int(line.split()[1]))
            time.sleep(0.002)
    return largest


if __name__ == "__main__":
    main()
