"""Calibration and evaluation data that cannot be used: the message names file and line."""
import json

from checkpoints import Checkpoint
from halftone_cli import INPUT, NANO_LLAMA, CliTest, main

GOOD = '{"text": "The cat sat on the mat."}\n'


class BadData(CliTest):
    def refuse_data(self, fragments, content, model=NANO_LLAMA, name="data.jsonl", ranks=None):
        path = self.write(name, content)
        self.refuse(INPUT, [name, *fragments], "quantize", "--model", model, "--format", "fp8",
                    "--out", self.folder / "out", "--calib", path, ranks=ranks)
        self.assertFalse((self.folder / "out").exists())
        if ranks is None:
            self.refuse(INPUT, [name, *fragments], "evaluate", "--model", model, "--data", path)

    def test_malformed_lines(self):
        for line in ("{", '{"text": "a"', "no json", '{"text": 3}', '{"txt": "a"}', "3", '"a"',
                     '{"input_ids": "a"}', '{"input_ids": [1, "a"]}', '{"input_ids": [1.5]}',
                     "[1, null]", '{"text": "a"} {"text": "b"}'):
            with self.subTest(line):
                self.refuse_data(["line 3"], GOOD * 2 + line + "\n" + GOOD)

    def test_malformed_line_with_two_ranks(self):
        self.refuse_data(["line 2", "rank "], GOOD + "{\n", ranks=2)

    def test_invalid_utf8(self):
        for text in (b'{"text": "caf\xe9"}\n', b'{"text": "\xf0\x9f\x98"}\n', b'{"text": "\xc0\x80"}\n',
                     b'{"text": "\xed\xa0\x80"}\n', b'{"text": "\\ud800"}\n'):
            with self.subTest(text):
                self.refuse_data(["line 2"], GOOD.encode() + text)
        self.refuse_data(["UTF-8"], b"caf\xe9\n", name="data.txt")

    def test_wrong_text_field(self):
        self.refuse_data(["line 1", "--text-field"], '{"body": "a"}\n')

    def test_empty_sets(self):
        for content in ("", "\n\n", '{"text": ""}\n' * 3, '{"input_ids": []}\n'):
            with self.subTest(content):
                self.refuse_data(["no sample"], content)

    def test_ids_outside_the_vocabulary(self):
        for value in (2048, -1, 2 ** 31, 2 ** 63, 2 ** 64 + 5):
            with self.subTest(value):
                self.refuse_data(["line 2", str(value)[:5] if value < 2 ** 60 else "", "2047"],
                                 f"[0, 5, 7]\n[0, {value}]\n")

    def test_longer_than_the_positions(self):
        checkpoint = Checkpoint()
        checkpoint.config["max_position_embeddings"] = 32
        model = checkpoint.save(self.folder / "model")
        ids = json.dumps({"input_ids": [5] * 40})
        self.refuse_data(["line 2", "40", "32", "-length"], f"[1, 2]\n{ids}\n", model=model)
        # Cut to the positions it works.
        path = self.write("cut.jsonl", ids)
        self.quantize("out", "--format", "fp8", "--calib", path, "--calib-samples", 1,
                      "--calib-length", 32, model=model)

    def test_missing_files(self):
        for name in ("nowhere.jsonl", "nowhere.txt"):
            self.refuse(INPUT, [name], "quantize", "--model", NANO_LLAMA, "--format", "fp8",
                        "--out", self.folder / "out", "--calib", self.folder / name)
        (self.folder / "folder.jsonl").mkdir()
        self.refuse(INPUT, ["folder.jsonl"], "evaluate", "--model", NANO_LLAMA,
                    "--data", self.folder / "folder.jsonl")

    def test_nothing_to_predict(self):
        self.refuse(INPUT, ["--data"], "evaluate", "--model", NANO_LLAMA,
                    "--data", self.write("one.jsonl", "[5]\n"))

    def test_text_without_tokenizer(self):
        model = Checkpoint().save(self.folder / "model")
        (model / "tokenizer.json").unlink()
        self.refuse_data(["line 1", "tokenizer"], GOOD, model=model)
        path = self.write("ids.jsonl", "[1, 2, 3]\n")
        self.quantize("out", "--format", "fp8", "--calib", path, "--calib-samples", 1, model=model)

    def test_empty_texts_are_dropped_and_counted(self):
        path = self.write("data.jsonl", GOOD + '{"text": ""}\n' + GOOD)
        result = self.succeed("quantize", "--model", NANO_LLAMA, "--format", "fp8",
                              "--out", self.folder / "out", "--calib", path)
        self.assertIn("1 empty samples", result.stderr)

    def test_second_of_several_files(self):
        first, second = self.write("first.jsonl", GOOD), self.write("second.jsonl", GOOD + "{")
        self.refuse(INPUT, ["second.jsonl", "line 2"], "quantize", "--model", NANO_LLAMA,
                    "--format", "fp8", "--out", self.folder / "out", "--calib", first, second)


if __name__ == "__main__":
    main()
