"""Writes goldens/*.json, what transformers renders of every template over every case, and the
results in language.json.

    python make_goldens.py FOLDER

Needs transformers and jinja2; the committed files were made with transformers 5.17.0, jinja2 3.1.6.
"""
import copy
import datetime
import json
import sys
from pathlib import Path

import jinja2
import transformers.utils.chat_template_utils as utils

HERE = Path(__file__).resolve().parent
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


class FixedDay(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


utils.datetime = FixedDay


def render(template, case):
    """{"text": ...}, {"refuses": message of raise_exception}, or {"fails": type of the error}."""
    try:
        rendered, _ = utils.render_jinja_template(
            conversations=[copy.deepcopy(case["messages"])], tools=copy.deepcopy(case.get("tools")),
            documents=None, chat_template=template,
            add_generation_prompt=case.get("add_generation_prompt", False),
            **SPECIAL_TOKENS, **case.get("arguments", {}))
        return {"text": rendered[0]}
    except jinja2.exceptions.TemplateError as error:
        if type(error) is jinja2.exceptions.TemplateError:
            return {"refuses": error.message}
        return {"fails": type(error).__name__}
    except TypeError as error:
        return {"fails": type(error).__name__}


def language_result(template, variables):
    try:
        # The function behind the cache.
        compiled = utils._cached_compile_jinja_template(template)
        return {"text": compiled.render(**copy.deepcopy(variables))}
    except Exception as error:  # whatever Python raises there is an error of the template
        return {"fails": type(error).__name__}


def write_language(folder):
    language = json.loads((HERE / "language.json").read_text(encoding="utf-8"))
    variables = language["variables"]
    lines = [json.dumps([template, language_result(template, variables)], ensure_ascii=False)
             for template, _ in language["cases"]]
    text = '{"variables": %s,\n"cases": [\n%s\n]}\n' % (
        json.dumps(variables, ensure_ascii=False), ",\n".join(lines))
    (Path(folder) / "language.json").write_text(text, encoding="utf-8")


def main(folder):
    (Path(folder) / "goldens").mkdir(exist_ok=True)
    cases = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))
    for path in sorted((HERE / "templates").glob("*.jinja")):
        with open(path, encoding="utf-8", newline="") as file:
            template = file.read()
        goldens = {case["name"]: render(template, case) for case in cases}
        text = json.dumps(goldens, ensure_ascii=False, indent=1) + "\n"
        (Path(folder) / "goldens" / f"{path.stem}.json").write_text(text, encoding="utf-8")
    write_language(folder)


if __name__ == "__main__":
    main(sys.argv[1])
