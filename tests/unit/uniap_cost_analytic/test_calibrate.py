"""Fitting constants to runs: what is known is found again, what runs say nothing of stays."""

from __future__ import annotations

import msgspec
import pytest
from uniap_cost_analytic.calibrate import MOST, calibrate, price_with, to_toml
from uniap_cost_analytic.constants import VARIABLE, constants_of

from uniap_core.api import BadValue, Candidate, MeasuredRun, StrategySpace, Training
from uniap_core.cluster import preset
from uniap_core.posing import pose
from uniap_zoo.llama import llama

SPACE = StrategySpace(tp=(1,), shardings=("zero1",), recomputes=("none",))


def predict(layers: int, batch: int):
    graph = llama(layers=layers, hidden=2048, heads=16, ffn=5632, vocab=32000, sequence=2048)
    candidate = Candidate.of(1, 1, Training(global_batch=batch))

    def seconds(price):
        problem = pose(price(graph, preset("8xA100-80G"), SPACE, candidate))
        return sum(float(layer.time_s.min()) for layer in problem.layers)

    return seconds


def runs(true, generation="ampere"):
    return [
        MeasuredRun(
            predict(layers, batch)(price_with({generation: true})), frozenset({generation}), predict(layers, batch)
        )
        for layers, batch in ((4, 64), (8, 64), (8, 128), (16, 64))
    ]


def test_a_slower_machine_is_found_to_be_slower():
    start = constants_of("ampere")
    true = msgspec.structs.replace(start, matmul_share=start.matmul_share * 0.7)
    fitted = calibrate(runs(true), {"ampere": start})["ampere"]
    assert fitted.runs == 4
    assert fitted.error_after < 0.25 * fitted.error_before
    assert fitted.constants.matmul_share < 0.85 * start.matmul_share
    # No run crosses nodes: the prior alone speaks of what lies between them.
    assert fitted.constants.inter_share == pytest.approx(start.inter_share, rel=1e-6)
    for name, (low, high) in fitted.intervals.items():
        assert low <= getattr(fitted.constants, name) * (1 + 1e-9) <= max(high, MOST.get(name, high)) * (1 + 1e-6)


def test_a_perfect_model_stays_where_it_is():
    start = constants_of("ampere")
    fitted = calibrate(runs(start), {"ampere": start})["ampere"]
    assert fitted.error_before == pytest.approx(0.0, abs=1e-12)
    for name in fitted.intervals:
        assert getattr(fitted.constants, name) == pytest.approx(getattr(start, name), rel=1e-3)


def test_one_run_is_too_few():
    with pytest.raises(BadValue, match="2 measured runs"):
        calibrate(runs(constants_of("ampere"))[:1])


def test_what_is_written_is_read_back(tmp_path, monkeypatch):
    start = constants_of("ampere")
    fitted = calibrate(runs(start), {"ampere": start})
    path = tmp_path / "mine.toml"
    path.write_text(to_toml(fitted, "a test"))
    monkeypatch.setenv(VARIABLE, str(path))
    for name in fitted["ampere"].constants.__struct_fields__:
        assert getattr(constants_of("ampere"), name) == pytest.approx(
            getattr(fitted["ampere"].constants, name), rel=1e-3
        )
