"""`evaluate --tasks choice, arc_easy, lambada, kl, mmlu` against what the program's own logits say."""
import array
import json
import math

from checkpoints import Tensor, floats_of, write_safetensors
from halftone_cli import INPUT, NANO_LLAMA, USAGE, main
from models import ModelTest

FP32 = ("--dtype", "float32")

QUESTIONS = [
    ("The sun rises in the", ["east", "kitchen cupboard", "a"], 0),
    ("She opened the door and", ["walked in", "the the the"], 0),
    ("He was so tired that he went to ", ["bed", "quantize"], 1),
    ("Once upon a", ["time", "table", "tiger", "tomorrow"], 3),
    ("", ["Nothing stands in front of this", "Nor of that one"], 1),
]


def log_softmax(row):
    greatest = max(row)
    total = math.log(sum(math.exp(value - greatest) for value in row)) + greatest
    return [value - total for value in row]


class TaskTest(ModelTest):
    def lines(self, name, values):
        return self.write(name, "".join(json.dumps(value) + "\n" for value in values))

    def task(self, name, *options, model=NANO_LLAMA, ranks=None):
        result = self.succeed_json("evaluate", "--model", model, "--tasks", name, *options,
                                   ranks=ranks)
        return result["tasks"][name]

    def ids_of(self, texts):
        source = self.lines("texts.jsonl", [{"text": text} for text in texts])
        out = self.succeed("tokenize", "--model", NANO_LLAMA, "--input", source, "--plain").stdout
        return [json.loads(line)["ids"] for line in out.splitlines()]

    def logits_of(self, ids):
        path = self.folder / "ids.safetensors"
        write_safetensors(path, {"input_ids": Tensor("I64", [1, len(ids)],
                                                     array.array("q", ids).tobytes())})
        logits = self.logits(NANO_LLAMA, path, *FP32)["logits"]
        values, vocabulary = floats_of(logits), logits.shape[-1]
        return [values[at:at + vocabulary] for at in range(0, len(values), vocabulary)]

    def score(self, context, text, bos):
        """The log-probability of ` text` behind the context, as lm-eval splits the two."""
        bare = context.rstrip()
        front, whole = self.ids_of([bare or "x", context + " " + text])
        front = front if bare else []
        lead = [] if front else [bos]
        ids = lead + whole
        rows = self.logits_of(ids)
        first = len(lead) + len(front)
        return sum(log_softmax(rows[place - 1])[ids[place]] for place in range(first, len(ids)))


class Choices(TaskTest):
    def expected(self):
        plain, normalized = [], []
        bos = json.loads((NANO_LLAMA / "config.json").read_text())["bos_token_id"]
        for context, choices, answer in QUESTIONS:
            scores = [self.score(context, choice, bos) for choice in choices]
            by_length = [score / len(choice) for score, choice in zip(scores, choices)]
            plain.append(float(scores.index(max(scores)) == answer))
            normalized.append(float(by_length.index(max(by_length)) == answer))
        return plain, normalized

    def test_accuracies(self):
        data = self.lines("choice.jsonl", [{"context": context, "choices": choices, "answer": answer}
                                           for context, choices, answer in QUESTIONS])
        plain, normalized = self.expected()
        n = len(QUESTIONS)
        found = self.task("choice", "--task-data", data, *FP32)
        mean = sum(plain) / n
        self.assertAlmostEqual(found["value"], mean)
        self.assertAlmostEqual(found["acc_norm"], sum(normalized) / n)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in plain) / (n - 1) / n)
        self.assertAlmostEqual(found["stderr"], deviation)
        self.assertEqual(found["n"], n)
        for ranks in (2, 3):
            again = self.task("choice", "--task-data", data, *FP32, "--batch-size", 2, ranks=ranks)
            self.assertEqual(again, found)

    def test_lambada(self):
        texts = ["She opened the door and walked in", "The cat sat on the mat"]
        data = self.lines("lambada.jsonl", [{"text": text} for text in texts])
        scores = [self.score(*text.rsplit(" ", 1), 0) for text in texts]
        found = self.task("lambada", "--task-data", f"lambada={data}", *FP32)
        self.assert_close(found["perplexity"], math.exp(-sum(scores) / 2), 1e-4)
        self.assertEqual(found["n"], 2)

    def test_several_tasks_at_once(self):
        arc = self.lines("arc.jsonl", [{"question": "What is warm?", "answerKey": "B", "choices": {
            "text": ["ice", "the sun"], "label": ["A", "B"]}}])
        lambada = self.lines("lambada.jsonl", [{"text": "She opened the door"}])
        result = self.succeed_json("evaluate", "--model", NANO_LLAMA, "--tasks", "arc_easy,lambada",
                                   "--task-data", f"arc_easy={arc}", f"lambada={lambada}", *FP32)
        self.assertEqual(set(result["tasks"]), {"arc_easy", "lambada"})

    def test_refusals(self):
        arguments = ("evaluate", "--model", NANO_LLAMA, "--tasks")
        self.refuse(USAGE, ["piqa", "--task-data"], *arguments, "piqa")
        self.refuse(USAGE, ["unknown task 'picka'", "piqa"], *arguments, "picka")
        bad = self.lines("bad.jsonl", [{"goal": "a", "sol1": "b", "sol2": "c", "label": 7}])
        self.refuse(INPUT, ["line 1", "label"], *arguments, "piqa", "--task-data", bad)
        self.refuse(USAGE, ["--against"], *arguments, "kl")


class Divergence(TaskTest):
    DATA = ("--data-samples", 6, "--data-length", 64)

    def test_nothing_between_a_model_and_itself(self):
        found = self.task("kl", "--against", NANO_LLAMA, *self.DATA)
        self.assertEqual((found["value"], found["max"], found["top1_agreement"]), (0, 0, 1))

    def test_quantized(self):
        fake = self.task("kl", "--format", "fp8", "--calib-samples", 8, *self.DATA)
        self.assertGreater(fake["value"], 1e-4)
        self.assertLess(fake["value"], 0.1)
        self.assertGreaterEqual(fake["max"], fake["value"])
        self.assertGreater(fake["top1_agreement"], 0.8)
        out = self.folder / "out"
        self.quantize(out, "--format", "fp8", "--calib-samples", 8)
        for ranks in (None, 2):
            stored = self.task("kl", "--against", NANO_LLAMA, *self.DATA, model=out, ranks=ranks)
            self.assert_close(stored["value"], fake["value"], 1e-6)
            self.assertEqual(stored["tokens"], fake["tokens"])


class Mmlu(TaskTest):
    def test_letters(self):
        """Answers are counted as the continuations of the very prompts say."""
        folder = self.folder / "mmlu"
        for part in ("dev", "test"):
            (folder / part).mkdir(parents=True)
        rows = ["A or B?,x,y,z,w,B", "\"C, or D?\",x,y,z,w,D", "A?,a,b,c,d,A"]
        (folder / "dev/astronomy_dev.csv").write_text("\n".join(rows[:2]) + "\n")
        (folder / "test/astronomy_test.csv").write_text("\n".join(rows) + "\n")
        found = self.task("mmlu", "--task-data", folder, *FP32)
        self.assertEqual((found["n"], found["skipped"]), (3, 0))
        self.assertEqual(set(found["subjects"]), {"astronomy"})
        self.assertEqual(found["categories"], {"STEM": found["value"]})
        again = self.task("mmlu", "--task-data", folder, *FP32, "--generation-batch", 1, ranks=2)
        self.assertEqual(again, found)


if __name__ == "__main__":
    main()
