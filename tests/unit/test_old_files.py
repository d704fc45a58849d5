"""Files of version 0.1 (tests/data/v0_1) still read, still hold, and are written again as they were."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from uniap_core import artifact, plan, problem
from uniap_core.errors import BadFile, Unverified
from uniap_core.graph import ModelGraph
from uniap_core.models import load
from uniap_core.profile import Profile
from uniap_core.proposal import Proposal
from uniap_core.solve import result
from uniap_core.verify import verify_result

OLD = Path(__file__).parents[1] / "data" / "v0_1"
PLANS = sorted(OLD.glob("plan*.json"))


def edited(path, **fields):
    """The document of a plan file with some fields replaced, as text."""
    return msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), **fields})


def test_there_are_plans_of_every_sort():
    found = [plan.read(path) for path in PLANS]
    assert {p.cost_model.partition("/")[0] for p in found} == {"analytic", "profiled"}
    assert {p.schedule for p in found} == {"1f1b", "gpipe"}
    assert any(p.regime for p in found)
    assert any(p.pp > 1 for p in found)
    assert any(p.pins for p in found)


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_an_old_plan_holds_and_comes_back_word_for_word(path, tmp_path):
    old = plan.read(path)
    plan.check_seal(old)
    plan.write(tmp_path / "again.json", old)
    assert (tmp_path / "again.json").read_text() == path.read_text()
    assert plan.read(tmp_path / "again.json") == old


def test_an_old_problem_and_its_result_hold(tmp_path):
    posed = problem.read(OLD / "problem.json")
    problem.write(tmp_path / "again.json", posed)
    assert (tmp_path / "again.json").read_text() == (OLD / "problem.json").read_text()
    document = artifact.read(OLD / "result.json", result.ResultFile)
    assert document.problem == posed.hash
    answer = result.from_file(document, posed)
    assert verify_result(posed, answer).passed


def test_an_old_graph_and_an_old_profile_read(tmp_path):
    graph = load(str(OLD / "graph.json"))
    assert graph.hash == plan.read(OLD / "plan.json").hashes.graph
    for name, kind in (("graph", ModelGraph), ("profile", Profile)):
        text = (OLD / f"{name}.json").read_text()
        assert artifact.pretty(artifact.decode(text, kind)) == text


# --- what is refused --------------------------------------------------------------------------------------------


def test_unknown_fields_are_refused_with_their_path():
    path = OLD / "plan.json"
    layers = msgspec.json.decode(path.read_bytes())["layers"]
    spoiled = edited(path, layers=[layers[0], {**layers[1], "colour": 1}, *layers[2:]])
    with pytest.raises(BadFile, match=r"colour.*\$\.layers\[1\]"):
        artifact.decode(spoiled, plan.PlanFile)
    with pytest.raises(BadFile, match="candidate"):
        artifact.decode(edited(path, candidate=1), plan.PlanFile)


@pytest.mark.parametrize("field", ["global_batch", "precision", "schedule", "sequence"])
def test_what_a_plan_says_twice_it_says_alike(field):
    path = OLD / "plan.json"
    value = msgspec.json.decode(path.read_bytes())[field]
    other = value * 2 if isinstance(value, int) else {"bf16": "fp16", "1f1b": "gpipe"}[value]
    document = artifact.decode(edited(path, **{field: other}), plan.PlanFile)
    with pytest.raises(Unverified, match=f"its {field} is {other}"):
        plan.from_file(document)


def test_a_strategy_that_there_cannot_be_is_refused_with_its_layer():
    path = OLD / "plan.json"
    layers = msgspec.json.decode(path.read_bytes())["layers"]
    document = artifact.decode(edited(path, layers=[{**layers[0], "dp": 0}, *layers[1:]]), plan.PlanFile)
    with pytest.raises(Unverified, match=f"layer {layers[0]['name']}: dp is 0"):
        plan.from_file(document)


# --- what may come later ----------------------------------------------------------------------------------------


def test_kinds_of_layers_are_written_where_they_are_known_and_sealed():
    old = plan.read(OLD / "plan.json")
    first = msgspec.structs.replace(old.layers[0], kind=3)
    proposal = msgspec.structs.replace(old.proposal, layers=(first, *old.layers[1:]))
    known = msgspec.structs.replace(old, proposal=proposal)
    document = msgspec.json.decode(artifact.encode(plan.to_file(known)))
    assert [layer.get("kind") for layer in document["layers"]] == [3, *[None] * (len(old.layers) - 1)]
    assert plan.from_file(msgspec.convert(document, plan.PlanFile)) == known
    with pytest.raises(Unverified, match="edited after it was verified"):
        plan.check_seal(known)


def test_a_plan_answers_whatever_its_proposal_says():
    old = plan.read(OLD / "plan-torchtitan.json")
    said = [name for name in dir(Proposal) if not name.startswith("_") and name != "title"]
    assert {"pp", "micro_batches", "predicted", "layers", "schedule", "regime"} <= set(said)
    for name in said:
        assert getattr(old, name) == getattr(old.proposal, name)
    assert (old.pp, old.micro_batches) == (2, 2)


def test_a_plan_says_what_it_is_in_a_line():
    old = plan.read(OLD / "plan.json")
    for shown in (repr(old), repr(old.proposal), str(old)):
        assert "\n" not in shown
        assert len(shown) < 200
        assert f"pp {old.pp} x {old.micro_batches}" in shown
        assert old.cluster.name in shown
