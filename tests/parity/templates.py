"""Makes `templates.json`: what transformers makes of published chat templates.

    python tests/parity/templates.py MATERIAL      MATERIAL: the folder of test material

For each template of the material and each conversation: the prompt, or null where the template
refuses the messages, with `<today>` for today's date. Contents are lists of parts where the
template takes them so, else strings.
"""

import json
import sys
from datetime import datetime
from pathlib import Path

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).resolve().parent
FOLDERS = ["processors", "tokenizers"]
# How templates write today's date.
DATES = ["%d %B %Y", "%d %b %Y", "%Y-%m-%d"]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def text(words):
    return {"type": "text", "text": words}


def said(role, *parts):
    return {"role": role, "content": list(parts)}


IMAGE = {"type": "image"}
QUESTION = said("user", IMAGE, text("What is this?"))
CONVERSATIONS = {
    "question": [QUESTION],
    "follow-up": [QUESTION, said("assistant", text("A dog.")), said("user", text("Its colour? "))],
    "system": [said("system", text("Be brief.")), QUESTION],
    "two pictures": [said("user", IMAGE, IMAGE, text("Which is larger?\n<b>\"Größe\"</b>"))],
    "words only": [said("user", text("Hello"))],
}


def render(template, messages):
    try:
        prompts, _ = render_jinja_template(
            conversations=[messages], chat_template=template, add_generation_prompt=True, **SPECIAL)
    except (TemplateError, TypeError, AttributeError, KeyError):
        return None
    prompt = prompts[0]
    for form in DATES:
        prompt = prompt.replace(datetime.now().strftime(form), "<today>")
    return prompt


def flat(messages):
    """Contents as strings, a picture as its mark on a line of its own."""
    def one(part):
        return "<image>\n" if part["type"] == "image" else part["text"]

    return [m | {"content": "".join(one(part) for part in m["content"])} for m in messages]


def takes_parts(template):
    prompt = render(template, [said("user", text("PROBE"))])
    return prompt is not None and "PROBE" in prompt and "'text'" not in prompt


def templates(material):
    for folder in FOLDERS:
        for path in sorted((material / folder).rglob("*")):
            if path.suffix == ".jinja":
                yield path, path.read_text()
            elif path.suffix == ".json":
                found = json.loads(path.read_text())
                found = found.get("chat_template") if isinstance(found, dict) else None
                if isinstance(found, str):
                    yield path, found


def main(material):
    rows = []
    for path, template in templates(material):
        as_parts = takes_parts(template)
        prompts = {}
        for name, messages in CONVERSATIONS.items():
            prompts[name] = render(template, messages if as_parts else flat(messages))
        file = path.relative_to(material).as_posix()
        if not any(prompts.values()):
            print(f"left out, it renders nothing without tools: {file}")
            continue
        rows.append({"file": file, "parts": as_parts, "prompts": prompts})
    (HERE / "templates.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
    print(f"{len(rows)} templates")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
