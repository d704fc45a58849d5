"""A plugin whose compiled code never comes back, or takes its process with it: listing goes on, and ends when asked."""

import os
import signal
import subprocess
import sys
import time
import uuid

import pytest
from installing import install

from bench.interrupts import marked
from uniap_core.cli import lists
from uniap_core.solve import process

# PyDLL keeps the interpreter's lock, as a compiled module that hangs does: no thread of Python runs then.
HANGS = 'import ctypes, pathlib\npathlib.Path({began!r}).write_text("")\nctypes.PyDLL(None).sleep(3600)\n'
DIES = "import os\nos.abort()\n"

PROJECT = """
[project]
name = "acme-{name}"
version = "0"
[project.entry-points."uniap.models"]
{name} = "acme_{name}:MODELS"
"""


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Install a model plugin of such code for this test and what it starts; returns the file that it writes."""

    def make(name, code):
        project, target, began = tmp_path / "project", tmp_path / "site", tmp_path / "began"
        package = project / f"acme_{name}"
        package.mkdir(parents=True)
        target.mkdir()
        (project / "pyproject.toml").write_text(PROJECT.format(name=name))
        (package / "__init__.py").write_text(code.format(began=str(began)))
        install(project, target)
        monkeypatch.syspath_prepend(target)
        process.dismiss()  # a warm one would not see it
        return began

    return make


@pytest.mark.parametrize("arguments", [["models"], ["plugins", "--probe"]])
def test_an_interrupt_ends_what_hangs_in_compiled_code(distribution, arguments):
    began, mark = distribution("hangs", HANGS), uuid.uuid4().hex
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), UNIAP_TRIAL=mark)
    command = [sys.executable, "-c", "from uniap_core.entry import main; main()", *arguments]
    listing = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while not began.exists() and listing.poll() is None:
            time.sleep(0.05)
        listing.send_signal(signal.SIGINT)
        _, words = listing.communicate(timeout=60)
    finally:
        listing.kill()
    assert listing.returncode == 130, words
    assert "interrupted" in words
    assert not {pid: line for pid, line in marked(f"UNIAP_TRIAL={mark}").items() if "uniap-warden" not in line}


@pytest.mark.parametrize(
    ("name", "code", "words"), [("hangs", HANGS, "did not answer"), ("dies", DIES, "process died")]
)
def test_what_hangs_or_dies_is_named_and_hides_no_other(distribution, monkeypatch, name, code, words):
    monkeypatch.setattr(lists, "PROBE_S", 5.0)
    distribution(name, code)
    assert words in lists._probe("model", name)
    assert lists._probe("model", "zoo") == "ok"
