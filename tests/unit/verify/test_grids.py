"""Legality of both grids, as the verifier holds it: each rule with a strategy that breaks it and nothing else."""

from __future__ import annotations

import pytest
from msgspec import structs
from msgspec.structs import replace

from uniap_core import models
from uniap_core.costs import Candidate
from uniap_core.problem import Assignment
from uniap_core.proposal import propose
from uniap_core.search import make, price
from uniap_core.strategy import Strategy
from uniap_core.verify import verify
from uniap_core.verify.devices import degrees, divisibility

MODEL = "mixtral:layers=2,hidden=256,heads=8,kv_heads=4,ffn=384,vocab=512,seq=16384,experts=4"
FOLDED = Strategy(tp=2, dp=2, cp=2, ep=4, etp=1, sharding="zero1", sequence_parallel=True)


@pytest.fixture(scope="module")
def proposal():
    search = make(MODEL, "8xH100-80G", 8)
    tables = price(search, Candidate.of(1, 2, search.training))
    plain = structs.replace(FOLDED, ep=1, etp=FOLDED.tp)
    wanted = [plain, FOLDED, FOLDED, plain]
    chosen = [layer.strategies.index(s) for layer, s in zip(tables.layers, wanted, strict=True)]
    assignment = Assignment((0,) * 4, tuple(chosen))
    made = propose(search.graph, search.cluster, search.space, tables, assignment, solver="hand", bound_s=None)
    return made, tables


def broken(proposal, **fields):
    """The proposal with another strategy of its first block."""
    layers = list(proposal.layers)
    layers[1] = replace(layers[1], strategy=structs.replace(layers[1].strategy, **fields))
    return replace(proposal, layers=tuple(layers))


def test_a_plan_on_both_grids_with_context_parallelism_holds(proposal):
    verdict = verify(*proposal)
    assert verdict.passed, [check.evidence for check in verdict.failed]


@pytest.mark.parametrize(
    ("check", "fields", "said"),
    [
        (degrees, {"dp": 4}, "tp 2 x dp 4 x cp 2 is not the 8 ranks"),
        (degrees, {"tp": 4, "dp": 1, "etp": 2}, "etp 2 is neither 1 nor tp 4"),
        (degrees, {"sequence_parallel": False}, "etp 1 under tp 2 needs sequence parallelism"),
        (divisibility, {"ep": 8}, "4 experts of gate_up do not divide by ep 8"),
        (divisibility, {"cp": 4, "dp": 1}, ""),
    ],
)
def test_a_strategy_that_breaks_a_rule_is_named(proposal, check, fields, said):
    found = check(broken(proposal[0], **fields))
    assert found.passed == (not said)
    assert said in found.evidence


def test_degrees_on_the_expert_grid_must_multiply_to_the_stage(proposal):
    """A strategy cannot say this of itself; a file of other stages can."""
    short = replace(proposal[0], stages=(structs.replace(proposal[0].stages[0], ranks=(0, 1, 2, 3)),))
    strategy = Strategy(tp=2, dp=2, ep=2)
    layers = tuple(replace(layer, strategy=strategy) for layer in short.layers)
    assert degrees(replace(short, layers=layers)).passed
    odd = tuple(replace(layer, strategy=structs.replace(strategy, dp=8, ep=8)) for layer in short.layers)
    assert not degrees(replace(short, layers=odd)).passed


def test_the_width_of_an_expert_divides_by_what_cuts_it(proposal):
    graph = models.load(MODEL.replace("ffn=384", "ffn=383"))
    whole = replace(proposal[0], model=graph)
    assert "width 38" not in divisibility(whole).evidence
    cut = broken(whole, etp=2, ep=2)
    assert "width 766 of each expert of gate_up" not in divisibility(cut).evidence
    assert "width 383 of each expert of down does not divide by etp 2" in divisibility(cut).evidence


def test_a_context_that_does_not_divide_is_named(proposal):
    odd = replace(proposal[0], model=structs.replace(proposal[0].model, sequence=16386))
    assert "the sequence of 16386 does not divide by twice cp 2" in divisibility(odd).evidence


def test_what_runs_along_a_sequence_is_not_cut(proposal):
    made, tables = proposal
    (first, *others) = made.model.layers[1].operators
    layer = structs.replace(made.model.layers[1], operators=(structs.replace(first, name="mixer.scan_state"), *others))
    layers = (made.model.layers[0], layer, *made.model.layers[2:])
    hybrid = structs.replace(made.model, layers=layers)
    assert "mixer.scan_state runs along the sequence" in divisibility(replace(made, model=hybrid)).evidence
    search = make(hybrid, "8xH100-80G", 8)
    menu = price(search, Candidate.of(1, 2, search.training)).layers[1].strategies
    assert {s.cp for s in menu} == {1}
    assert {s.cp for s in tables.layers[1].strategies} > {1}


def test_what_the_menu_of_a_layer_lacks_is_not_in_the_space(proposal):
    made, tables = proposal
    layers = list(made.layers)
    layers[0] = replace(layers[0], strategy=FOLDED)
    verdict = verify(replace(made, layers=tuple(layers)), tables)
    assert "embedding: tp2-dp2-cp2-ep4-etp1-zero1-sp is not in the space of the plan" in str(verdict.failed)
