"""What the bench says of schedules: each priced as the source states it, and the regret of choosing among them."""

from __future__ import annotations

import pytest

from bench.fidelity import Judged
from bench.measured import _scheduled
from bench.schedules import by_schedule, choices
from uniap_core.estimate import Prediction

ROW = {
    "row_id": "primus:1",
    "gpu": "A100-80GB",
    "num_gpus": "4",
    "model": "llama",
    "layers": "8",
    "hidden": "1024",
    "heads": "8",
    "seq": "1024",
    "global_batch": "",
    "micro_batch": "",
    "tp": "1",
    "pp": "4",
    "cp": "",
    "ep": "",
    "recompute": "",
    "precision": "bf16",
    "iter_time_s": "",
}


def run(schedule: str, vpp: str, pace: str, gib: str, predicted_s: float, **other: str) -> Judged:
    notes = {"notes": f"pipeline schedule {schedule}; page says no more", "vpp": vpp}
    row = _scheduled(ROW | notes | {"tokens_per_s_per_gpu": pace, "mem_gib": gib} | other)
    return Judged(row, Prediction(predicted_s, 2.0**30, 0.0, True, True, ()))


def test_a_choice_costs_what_the_fastest_measured_gains_on_it() -> None:
    lines = choices(
        [run("1f1b", "1", "100", "10", 4.0), run("zbv", "2", "125", "12", 3.5), run("v-min", "2", "80", "", 3.0)]
    )
    assert [line["schedule"] for line in lines] == ["1f1b", "zbv x2", "v-min x2"]
    assert [line["measured_pace"] for line in lines] == pytest.approx([0.0, 0.25, -0.2])
    assert [line["predicted_pace"] for line in lines] == pytest.approx([0.0, 4 / 3.5 - 1, 1 / 3])
    assert lines[1]["measured_memory"] == pytest.approx(0.2)
    assert [line["regret"] for line in lines] == ["", "", pytest.approx(125 / 80 - 1)]


def test_runs_that_differ_in_something_else_are_no_choice() -> None:
    assert not choices(
        [run("1f1b", "1", "100", "", 4.0), run("1f1b", "1", "90", "", 4.0), run("zbv", "2", "95", "", 3.0)]
    )
    assert not choices([run("1f1b", "1", "100", "", 4.0), run("zbv", "2", "", "OOM", 3.0)])
    assert not choices([run("1f1b", "1", "100", "", 4.0), run("zbv", "2", "95", "", 3.0, tp="2", num_gpus="8")])


def test_errors_stand_apart_by_source_and_schedule() -> None:
    timed = [run("1f1b", "1", "", "", 4.0, iter_time_s="5"), run("zero-bubble", "1", "", "", 6.0, iter_time_s="5")]
    lines = by_schedule([*timed, run("zbv", "2", "100", "", 3.0)])
    assert [(line["schedule"], line["runs"]) for line in lines] == [("1f1b", 1), ("zb-h1", 1)]
    assert [line["time_bias"] for line in lines] == pytest.approx([-0.2, 0.2])
