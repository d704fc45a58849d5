"""Running commands as a person does, in this process: exit code, stdout, stderr."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from uniap_core.cli import register


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def uniap():
    """``uniap("plan", "bert-huge", ...)`` runs a command; a traceback fails the test."""
    app = register()

    def run(*arguments):
        done = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "80", "NO_COLOR": "1"})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def bert_plan(uniap, tmp_path_factory):
    """A plan file of BERT-Huge on eight V100."""
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    assert uniap("plan", "bert-huge", "--cluster", "8xV100-32G", "--batch", 32, "-o", path).code == 0
    return path
