"""The same bytes for every number of ranks and threads, and for formats made together or alone."""
import json

from checkpoints import Checkpoint, read_checkpoint_tensors, with_values
from halftone_cli import DATA, NANO_LLAMA, CliTest, file_sums, main, run

# Texts of mixed lengths, so that batches hold padding on the left. 5 batches: not a multiple of 2 or 4.
TEXTS = ("--calib-samples", 18, "--calib-length", 512, "--batch-size", 4)


class Determinism(CliTest):
    def setUp(self):
        super().setUp()
        lines = (DATA / "text" / "calib_selfwritten.jsonl").read_text().splitlines()
        lengths = [40, 300, 7, 150, 90, 1000, 3, 220, 64]
        texts = [{"text": json.loads(line)["text"][:lengths[i % len(lengths)]]}
                 for i, line in enumerate(lines[:18])]
        self.data = self.write("mixed.jsonl", "\n".join(map(json.dumps, texts)))

    def make(self, out, *options, ranks=None):
        return self.quantize(out, "--calib", self.data, *TEXTS, *options, ranks=ranks)

    def check_ranks_and_threads(self, *options):
        expected = self.make("alone", *options)
        for ranks in (1, 2, 4):
            self.assert_same_checkpoint(self.make(f"ranks{ranks}", *options, ranks=ranks), expected)
        # Five batches on seven ranks: two ranks have none.
        self.assert_same_checkpoint(self.make("ranks7", *options, ranks=7), expected)
        for threads in (1, 2):
            self.assert_same_checkpoint(
                self.make(f"threads{threads}", "--threads", threads, *options), expected)

    def test_fp8_with_fp8_cache(self):
        self.check_ranks_and_threads("--format", "fp8", "--kv-cache", "fp8")

    def test_nvfp4(self):
        self.check_ranks_and_threads("--format", "nvfp4")

    def test_padding_is_not_looked_at(self):
        """With an embedding of the padding token that stands out, the scales stay as they are, unless
        padding is counted. The latter also shows that these data hold padding."""
        checkpoint = Checkpoint()
        name = "model.embed_tokens.weight"
        columns = checkpoint.tensors[name].shape[1]
        first = checkpoint.config["pad_token_id"] * columns
        checkpoint.tensors[name] = with_values(
            checkpoint.tensors[name], {first + i: 100.0 if i == 3 else 0.0 for i in range(columns)})
        model = checkpoint.save(self.folder / "model")

        def scales(out, *options, model=NANO_LLAMA):
            out = self.quantize(out, "--calib", self.data, *TEXTS, "--format", "fp8", *options,
                                model=model)
            return {name: tensor.data for name, tensor in read_checkpoint_tensors(out).items()
                    if name.endswith(".input_scale")}
        original = scales("original")
        self.assertEqual(scales("left_out", model=model), original)
        self.assertNotEqual(scales("counted", "--count-padding", model=model), original)

    def test_two_formats_in_one_run(self):
        both = self.make("both", "--format", "fp8,nvfp4", ranks=2)
        for name in ("fp8", "nvfp4"):
            self.assert_same_checkpoint(both / name, self.make(name, "--format", name))
        self.assertEqual(sorted(path.name for path in both.iterdir()), ["fp8", "nvfp4"])

    def test_batches_do_not_depend_on_the_ranks(self):
        """--batch-size auto must depend on the data alone."""
        def batches(ranks):
            result = run("quantize", "--model", NANO_LLAMA, "--format", "fp8",
                         "--calib", self.data, "--calib-samples", 18, "--out",
                         self.folder / f"auto{ranks}", ranks=ranks)
            line = next(line for line in result.stderr.splitlines() if " batches on " in line)
            return line.split("info")[1].split(" on ")[0].strip()
        self.assertEqual(batches(1), batches(2))
        self.assertEqual(file_sums(self.folder / "auto1"), file_sums(self.folder / "auto2"))


if __name__ == "__main__":
    main()
