"""Every command and code block of README and tutorial runs, in order, in one folder; pages name every error."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from uniap_core import errors

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"(?P<skip><!-- not run: .+ -->\n)?```(?P<language>\w+)(?P<rest>[^\n]*)\n(?P<body>.*?)```", re.DOTALL
)
INSTALLS = ("python3 -m venv", "pip install", "make ", ". venv")
"""Commands that set up an environment: the one that tests run in is set up already."""


def blocks(page):
    for match in FENCE.finditer((ROOT / page).read_text()):
        title = re.search(r'title="([^"]+)"', match["rest"])
        yield match["language"], title[1] if title else "", match["body"], bool(match["skip"])


def commands(body):
    for line in body.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and not line.startswith(INSTALLS):
            yield words


def follow(page, folder):
    """Do what a page says: write titled files, run commands and Python blocks."""
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(folder)}
    for language, title, body, skipped in blocks(page):
        if skipped:
            continue
        if title:
            (folder / title).write_text(body)
        elif language == "bash":
            for words in commands(body):
                assert words[0] == "uniap", f"{page} tells to run {words[0]}"
                run([sys.executable, "-m", "uniap_core.cli", *words[1:]], folder, environment)
        elif language == "python":
            run([sys.executable, "-c", body], folder, environment)


def run(words, folder, environment):
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"


CONFIG = (
    '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 512,'
    ' "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 512,'
    ' "max_position_embeddings": 2048, "tie_word_embeddings": false}'
)


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_the_page_does_what_it_says(page, tmp_path):
    (tmp_path / "config.json").write_text(CONFIG)
    follow(page, tmp_path)


SHOWN = [
    (page, body)
    for page in ("README.md", "docs/howto/infeasible.md")
    for language, _, body, _ in blocks(page)
    if language == "text" and body.startswith("$ uniap ")
]


@pytest.mark.parametrize(("page", "body"), SHOWN, ids=[page for page, _ in SHOWN])
def test_what_a_page_shows_is_what_is_printed(page, body, tmp_path):
    """Word for word, but for how long it took."""
    command, expected = body.removeprefix("$ uniap ").split("\n", 1)
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}
    words = [sys.executable, "-m", "uniap_core.cli", *shlex.split(command)]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=99)

    def plain(text):
        return re.sub(r"[\d.]+ s in all", "so many s in all", text).split()

    assert plain(done.stderr + done.stdout) == plain(expected)


def test_every_error_has_its_place_on_the_page():
    page = (ROOT / "docs/errors.md").read_text()
    codes = [c.code for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, errors.UniapError)]
    assert [code for code in codes if code != "error" and f"\n## {code}\n" not in page] == []


def test_links_between_pages_lead_somewhere():
    dead = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            if not (page.parent / target).exists():
                dead.append(f"{page.relative_to(ROOT)} -> {target}")
    assert dead == []
