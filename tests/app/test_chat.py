"""`halftone tokenize --chat` against transformers, and the golden texts of tests/data/chat against
the transformers that is there."""
import json
import os
import shutil
import subprocess
import unittest
from pathlib import Path

from halftone_cli import DATA, CliTest, main, read_json

ROOT = Path(__file__).resolve().parents[2]
CHAT = DATA / "chat"
LLAMA3 = DATA / "tokenizers" / "llama-3"
QWEN3 = CHAT / "templates" / "qwen3.jinja"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
RANDOM_STATEMENTS = 400

# Writes the goldens anew, the ids of the conversations, and a random template with its text.
ASK = """
import json, pathlib, sys
sys.path[:0] = sys.argv[2:4]
import make_goldens, random_templates
from transformers import PreTrainedTokenizerFast
folder = pathlib.Path(sys.argv[1])
make_goldens.main(folder)
template = open(folder / "model" / "chat_template.jinja", newline="").read()
tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "model" / "tokenizer.json"),
                                    bos_token="<|begin_of_text|>", eos_token="<|eot_id|>",
                                    chat_template=template)
lines = [json.loads(line) for line in open(folder / "chats.jsonl", encoding="utf-8")]
asked = [dict(conversation=line["messages"], tools=line.get("tools"), add_generation_prompt=True,
              enable_thinking=False) for line in lines]
answers = [{"text": tokenizer.apply_chat_template(**one, tokenize=False),
            "ids": tokenizer.apply_chat_template(**one, return_dict=False)} for one in asked]
(folder / "answers.json").write_text(json.dumps(answers))

def render(template, variables):
    compiled = make_goldens.utils._cached_compile_jinja_template(template)
    return compiled.render(**json.loads(json.dumps(variables)))

statements = random_templates.working_templates(int(sys.argv[4]), int(sys.argv[5]), render)
variables = random_templates.VARIABLES
joined = "".join(statement + "|" for statement in statements)
(folder / "random.json").write_text(json.dumps(
    {"template": joined, "variables": variables, "text": render(joined, variables)}))
"""


def interpreter():
    configured = os.environ.get("HALFTONE_INTEROP_PYTHON")
    for python in [configured] if configured else [ROOT / ".venv-interop" / "bin" / "python"]:
        if Path(python).exists() and subprocess.run(
                [python, "-c", "import transformers, jinja2"], capture_output=True,
                check=False).returncode == 0:
            return python
    return None


PYTHON = interpreter()


class Chat(CliTest):
    def chat(self, lines, *options, model=LLAMA3):
        path = self.write("input.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        result = self.succeed("tokenize", "--chat", "--model", model, "--input", path, *options)
        return [json.loads(line) for line in result.stdout.split("\n") if line]

    def refuse_chat(self, code, fragment, line, *options):
        path = self.write("input.jsonl", json.dumps(line) + "\n")
        self.refuse(code, [fragment], "tokenize", "--model", LLAMA3, "--input", path, *options)

    def test_text_and_ids(self):
        template = self.write("t.jinja", "{{ bos_token }}{{ messages[0].content }}{{ x }}"
                                         "{{ strftime_now('%d %b %Y') }}{{ add_generation_prompt }}")
        options = ("--chat-template", template, "--date", "2024-02-29")
        bos = read_json(LLAMA3 / "tokenizer_config.json")["bos_token"]
        bos = bos["content"] if isinstance(bos, dict) else bos
        shown = self.chat([HELLO], "--text", "--chat-arguments", '{"x": [1]}', "--generation-prompt",
                          *options)
        self.assertEqual(shown, [{"text": f"{bos}hello[1]29 Feb 2024True"}])
        found = self.chat([HELLO], *options)
        text = {"text": "hello29 Feb 2024False"}
        path = self.write("text.jsonl", json.dumps(text) + "\n")
        plain = self.succeed("tokenize", "--model", LLAMA3, "--input", path)
        # The first token comes from the template alone, not from the tokenizer again.
        self.assertEqual(found, [json.loads(plain.stdout)])

    def test_errors(self):
        self.refuse_chat(3, "the model has no chat template", HELLO, "--chat")
        given = ("--chat", "--chat-template", QWEN3)
        self.refuse_chat(3, "line 1: expected an object with 'messages'", {"text": "x"}, *given)
        self.refuse_chat(3, "line 1: 'messages' is empty", {"messages": []}, *given)
        self.refuse_chat(3, "--chat-arguments", HELLO, *given, "--chat-arguments", "{")
        self.refuse_chat(2, "--date: expected YYYY-MM-DD", HELLO, *given, "--date", "2023-02-29")
        self.refuse_chat(2, "--text needs --chat", HELLO, "--text")
        self.refuse_chat(2, "--chat-template needs --chat", HELLO, "--chat-template", QWEN3)
        self.refuse_chat(2, "--plain is not for --chat", HELLO, *given, "--plain")
        gemma = CHAT / "templates" / "made-gemma.jinja"
        twice = {"messages": HELLO["messages"] * 2}
        self.refuse_chat(3, "the template refuses: The user and the model take turns", twice, "--chat",
                         "--chat-template", gemma)

    @unittest.skipUnless(PYTHON, "no Python with transformers: set HALFTONE_INTEROP_PYTHON")
    def test_against_transformers(self):
        model = self.folder / "model"
        model.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(LLAMA3 / name, model)
        shutil.copy(QWEN3, model / "chat_template.jinja")
        cases = [{key: case[key] for key in ("messages", "tools") if key in case}
                 for case in read_json(CHAT / "cases.json")
                 if case["name"] not in ("parts", "tool_call_no_content", "two_tool_calls")]
        self.write("chats.jsonl", "".join(json.dumps(line) + "\n" for line in cases))
        seed = int.from_bytes(os.urandom(4), "little")
        result = subprocess.run(
            [PYTHON, "-c", ASK, self.folder, CHAT, Path(__file__).parent, str(RANDOM_STATEMENTS),
             str(seed)], capture_output=True, encoding="utf-8", timeout=300, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        with self.subTest("goldens"):
            for path in sorted((CHAT / "goldens").iterdir()):
                self.assertEqual(read_json(path), read_json(self.folder / "goldens" / path.name))
            self.assertEqual(read_json(CHAT / "language.json"), read_json(self.folder / "language.json"))
        answers = read_json(self.folder / "answers.json")
        options = ("--generation-prompt", "--chat-arguments", '{"enable_thinking": false}')
        with self.subTest("text"):
            shown = self.chat(cases, "--text", *options, model=model)
            self.assertEqual([line["text"] for line in shown], [one["text"] for one in answers])
        with self.subTest("ids"):
            found = self.chat(cases, *options, model=model)
            self.assertEqual([line["ids"] for line in found], [one["ids"] for one in answers])
        with self.subTest(f"random statements of seed {seed}"):
            made = read_json(self.folder / "random.json")
            template = self.write("random.jinja", made["template"])
            shown = self.chat([HELLO], "--text", "--chat-template", template, "--chat-arguments",
                              json.dumps(made["variables"]), model=model)
            self.assertEqual(shown[0]["text"], made["text"])


if __name__ == "__main__":
    main()
