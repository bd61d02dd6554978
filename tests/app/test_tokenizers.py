"""`halftone tokenize` against the tokenizers library: every kind of the fixtures and freshly trained
vocabularies, on the texts of tests/data and on generated ones."""
import json
import os
import shutil
import subprocess
import unittest
from pathlib import Path

from adversarial_texts import AdversarialTexts
from halftone_cli import DATA, CliTest, main, read_json

ROOT = Path(__file__).resolve().parents[2]
KINDS = sorted(path.name for path in (DATA / "tokenizers").iterdir())
TEXTS_PER_KIND = 1000
LISTS_PER_KIND = 250

# Reads a folder's texts.json and lists.json; writes what the library makes of them.
ASK = """
import json, pathlib, sys
from tokenizers import Tokenizer
for folder in map(pathlib.Path, sys.argv[1:]):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = json.loads((folder / "texts.json").read_text())
    lists = json.loads((folder / "lists.json").read_text())
    encodings = [tokenizer.encode_batch(texts, add_special_tokens=special)
                 for special in (True, False)]
    answers = {"ids": [found.ids for found in encodings[0]],
               "ids_plain": [found.ids for found in encodings[1]],
               "decoded": tokenizer.decode_batch(lists, skip_special_tokens=True)}
    (folder / "answers.json").write_text(json.dumps(answers))
"""

# Trains three small vocabularies of the structures that decide most, and writes their tokenizer.json.
TRAIN = """
import json, pathlib, random, sys
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
folder, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
lines = [json.loads(line)["text"] for line in open(sys.argv[3], encoding="utf-8")]
lines = random.Random(seed).sample(lines, 60)
size = 500 + 150 * seed
def write(name, value):
    (folder / name).mkdir()
    (folder / name / "tokenizer.json").write_text(json.dumps(value))
quiet = {"show_progress": False}

tokenizer = Tokenizer(models.BPE())
tokenizer.normalizer = normalizers.NFC()
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=seed % 2 == 1)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
    vocab_size=size, special_tokens=["<|end|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **quiet))
write("byte-level", json.loads(tokenizer.to_str()))

# As Llama 2 has it: learned on words, used on whole texts, with bytes for what has no token.
tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
tokenizer.decoder = decoders.Sequence([
    decoders.Replace("\\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
    decoders.Strip(" ", 1, 0)])
byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
    vocab_size=size + 256, special_tokens=["<unk>", "<s>", *byte_tokens], **quiet))
value = json.loads(tokenizer.to_str())
value["added_tokens"] = value["added_tokens"][:2]
value["normalizer"] = {"type": "Sequence", "normalizers": [
    {"type": "Prepend", "prepend": "\\u2581"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "\\u2581"}]}
value["pre_tokenizer"] = None
write("byte-fallback", value)

tokenizer = Tokenizer(models.Unigram())
tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
    prepend_scheme=("always", "first", "never")[seed % 3], split=seed % 2 == 0)
tokenizer.decoder = decoders.Metaspace()
tokenizer.train_from_iterator(lines, trainers.UnigramTrainer(
    vocab_size=size, unk_token="<unk>", special_tokens=["<unk>", "</s>"], **quiet))
write("unigram", json.loads(tokenizer.to_str()))
"""


def interpreter():
    """The Python to use, or None: the one that was configured, or one of the repository's own."""
    configured = os.environ.get("HALFTONE_INTEROP_PYTHON")
    candidates = [configured] if configured else [
        ROOT / ".venv" / "bin" / "python", ROOT / ".venv-interop" / "bin" / "python"]
    for python in candidates:
        if not Path(python).exists():
            continue
        found = subprocess.run([python, "-c", "import tokenizers"], capture_output=True, check=False)
        if found.returncode == 0:
            return python
    if configured:
        raise RuntimeError(f"HALFTONE_INTEROP_PYTHON={configured} cannot import tokenizers")
    return None


PYTHON = interpreter()


def texts_of_data():
    for path in sorted((DATA / "text").glob("*.jsonl")):
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)["text"]


@unittest.skipUnless(PYTHON, "no Python with tokenizers: set HALFTONE_INTEROP_PYTHON")
class Tokenizers(CliTest):
    def run_python(self, code, *arguments):
        result = subprocess.run([PYTHON, "-c", code, *map(str, arguments)], capture_output=True,
                                encoding="utf-8", timeout=300, check=False,
                                env={**os.environ, "RAYON_NUM_THREADS": "2"})
        self.assertEqual(result.returncode, 0, result.stderr)

    def prepare(self, folder, seed):
        """Writes the questions beside a tokenizer.json."""
        file = read_json(folder / "tokenizer.json")
        vocab = file["model"]["vocab"]
        ids = list(vocab.values()) if isinstance(vocab, dict) else list(range(len(vocab)))
        ids += [token["id"] for token in file["added_tokens"]]
        source = AdversarialTexts(seed, [token["content"] for token in file["added_tokens"]])
        # Each kind gets other lines of the data: a quarter of them.
        texts = [*list(texts_of_data())[seed % 4::4], *source.texts(TEXTS_PER_KIND)]
        (folder / "texts.json").write_text(json.dumps(texts))
        (folder / "lists.json").write_text(json.dumps(source.id_lists(ids, LISTS_PER_KIND)))

    def tokenize(self, folder, key, values, *options):
        path = self.write("input.jsonl", "".join(json.dumps({key: value}) + "\n" for value in values))
        result = self.succeed("tokenize", "--model", folder, "--input", path, *options)
        # Only \n ends a line: texts may hold other line separators.
        return [json.loads(line) for line in result.stdout.split("\n") if line]

    def compare(self, folder, bos=()):
        answers = read_json(folder / "answers.json")
        texts = read_json(folder / "texts.json")
        lists = read_json(folder / "lists.json")
        for options, key, first in (((), "ids", list(bos)), (("--plain",), "ids_plain", [])):
            found = self.tokenize(folder, "text", texts, *options)
            self.assertEqual(len(found), len(texts))
            for text, line, ids in zip(texts, found, answers[key]):
                self.assertEqual(line["ids"], first + ids, f"{folder.name}: {text!a}")
        found = self.tokenize(folder, "ids", lists, "--decode")
        self.assertEqual(len(found), len(lists))
        for ids, line, text in zip(lists, found, answers["decoded"]):
            self.assertEqual(line["text"], text, f"{folder.name}: {ids}")

    def test_fixtures(self):
        folders = []
        for seed, kind in enumerate(KINDS):
            folder = self.folder / kind
            folder.mkdir()
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(DATA / "tokenizers" / kind / name, folder)
            self.prepare(folder, seed)
            folders.append(folder)
        self.assertGreaterEqual(len(folders), 17)
        self.run_python(ASK, *folders)
        for folder in folders:
            with self.subTest(folder.name):
                # Its bos comes from tokenizer_config.json, which the library does not read.
                self.compare(folder, bos=(0,) if folder.name == "deepseek-v3" else ())

    def test_trained(self):
        folders = []
        for seed in range(3):
            home = self.folder / f"seed-{seed}"
            home.mkdir()
            self.run_python(TRAIN, home, seed, DATA / "text" / "calib_selfwritten.jsonl")
            folders += sorted(home.iterdir())
        self.assertEqual(len(folders), 9)
        for seed, folder in enumerate(folders):
            self.prepare(folder, 100 + seed)
        self.run_python(ASK, *folders)
        for folder in folders:
            with self.subTest(str(folder.relative_to(self.folder))):
                self.compare(folder)


if __name__ == "__main__":
    main()
