"""--trace, and the times of each stage in summary.json."""

from halftone_cli import NANO_LLAMA, RESOURCES, CliTest, main, read_json, summary_of

LANES = ["read", "gather", "scan", "forward", "reduce", "solve", "pack", "write", "wait"]


class Trace(CliTest):
    def test_spans(self):
        trace = self.folder / "trace.json"
        out = self.quantize("out", "--format", "fp8", "--trace", trace, ranks=2)
        events = read_json(trace)["traceEvents"]
        lanes = {(event["pid"], event["args"]["name"]): event["tid"] for event in events
                 if event["name"] == "thread_name"}
        self.assertEqual(sorted(lanes), sorted((rank, lane) for rank in (0, 1) for lane in LANES))
        stages = [stage["stage"] for stage in summary_of(out)["stages"]]
        for (rank, lane), number in lanes.items():
            spans = [event for event in events if event["ph"] == "X" and event["pid"] == rank
                     and event["tid"] == number]
            self.check_lane(lane, spans, stages)

    def check_lane(self, lane, spans, stages):
        self.assertTrue(spans or lane == "wait", lane)
        end = 0.0
        order = []
        for span in spans:
            self.assertEqual(span["cat"], lane)
            # Spans of one lane come one behind the other (to a rounding of the microseconds).
            self.assertGreaterEqual(span["ts"], end - 1e-2, lane)
            self.assertGreaterEqual(span["dur"], 0.0)
            end = span["ts"] + span["dur"]
            order.append(stages.index(span["name"]))
        self.assertEqual(order, sorted(order), f"{lane}: stages in order")
        if lane in ("read", "gather", "forward", "solve", "pack"):
            self.assertGreater(len(set(order)), 3, lane)

    def test_summary(self):
        summary = summary_of(self.quantize("out", "--format", "fp8"))
        self.assertGreaterEqual(summary["exposed_io"], 0.0)
        self.assertLessEqual(summary["exposed_io"], 1.0)
        stages = summary["stages"]
        self.assertEqual(stages[0]["stage"], "embedding")
        self.assertEqual([stage["stage"] for stage in stages[-2:]], ["head", "end"])
        for stage in stages:
            self.assertEqual(sorted(set(stage) - {"stage"}), sorted(LANES))
        packed = sum(stage["pack"] for stage in stages)
        # The same time, taken at two places; the solver's is part of the phase.
        self.assertLessEqual(packed, summary["phases"]["pack"]["seconds"])

    def test_file_that_cannot_be_written(self):
        self.refuse(RESOURCES, ["missing-folder"], "quantize", "--model", NANO_LLAMA, "--format",
                    "int8_wo", "--out", self.folder / "out", "--trace",
                    self.folder / "missing-folder" / "trace.json")
        self.assertFalse((self.folder / "out").exists(), "refused before the work")


if __name__ == "__main__":
    main()
