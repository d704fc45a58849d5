"""A module that only a file names is not imported, whoever reads the file."""

import json

import msgspec
import pytest
from typer.testing import CliRunner

from tests.planned import SMALL, load, planned
from uniap_core import artifact, trust
from uniap_core import plan as plans
from uniap_core.cli import register
from uniap_core.errors import UsageError

EVIL = "import pathlib; pathlib.Path('IMPORTED').touch()\ndef make(batch, sequence): 1 / 0\n"


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    """A module that leaves a trace when it is imported."""
    monkeypatch.setenv(trust.VARIABLE, "")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil_model.py").write_text(
        "import pathlib; pathlib.Path('IMPORTED').touch()\ndef make(batch, sequence): 1 / 0\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


GRAPH = msgspec.structs.replace(load(SMALL["llama"]), source="evil_model:make", family="traced")


def uniap(*arguments):
    return CliRunner().invoke(register(), [*map(str, arguments)])


def test_a_source_is_trusted_once_it_was_named():
    with pytest.raises(UsageError, match="evil_model:make"):
        trust.check("evil_model:make")
    trust.allow("evil_model:make")
    trust.check("evil_model:make")
    with pytest.raises(UsageError):
        trust.check("evil_model:other")
    trust.check("zoo:gpt2")
    trust.check("hf:config.json")
    trust.check("")


@pytest.mark.torch
def test_profile_run_and_export_import_nothing_that_a_file_names(module):
    pytest.importorskip("torch")
    (module / "graph.json").write_text(artifact.pretty(GRAPH))
    plans.write(module / "plan.json", planned(GRAPH, "tp1-dp8"))
    for arguments in (
        ("profile", "graph.json", "-o", "profile.json", "--ranks", 0),
        ("run", "plan.json", "--device", "cpu", "--no-check-memory"),
        ("export", "plan.json", "--to", "fsdp", "-o", "out"),
    ):
        done = uniap(*arguments)
        assert done.exit_code in (1, 2), done.output
        assert not (module / "IMPORTED").exists(), arguments
    done = uniap("run", "plan.json", "--device", "cpu", "--no-check-memory", "--json")
    assert "--trust-source" in json.loads(done.stdout)["fix"]


@pytest.mark.torch
def test_who_names_it_gets_it(module):
    pytest.importorskip("torch")
    done = uniap("trace", "evil_model:make")
    assert done.exit_code != 0
    assert (module / "IMPORTED").exists()
