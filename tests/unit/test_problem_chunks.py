"""Problems whose ranks hold several chunks: the semantics against optima that were found by enumeration elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uniap_core import artifact
from uniap_core.problem import from_file, read, to_file
from uniap_core.testing.oracle import optimum

FOLDER = Path(__file__).parents[1] / "data" / "problems2"
OPTIMA = json.loads((FOLDER / "optima.json").read_text())


@pytest.mark.parametrize("name", sorted(OPTIMA))
def test_enumeration_by_evaluate_finds_the_published_optimum(name):
    found = optimum(read(FOLDER / f"{name}.json"))
    assert found.objective_s == (pytest.approx(OPTIMA[name], rel=1e-9) if OPTIMA[name] is not None else float("inf"))


def test_a_chunked_problem_survives_its_file(tmp_path):
    for name in OPTIMA:
        posed = read(FOLDER / f"{name}.json")
        document = to_file(posed)
        assert from_file(document).hash == posed.hash
        schema = json.loads(artifact.pretty(document))["schema"]
        assert schema == ("uniap.problem/1" if name.startswith("plain") else "uniap.problem/2")
