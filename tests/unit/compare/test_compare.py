"""A comparison: what contradicts what, and the three renderings. (Real lies: tests/third_party/test_broken.py.)"""

import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

from uniap_core import artifact
from uniap_core.compare import Comparison, Entry, ProblemComparison, compare, curves, draw, page, table
from uniap_core.compare.run import _contradictions
from uniap_core.compare.table import HEADINGS, cells, ranked
from uniap_core.errors import UnknownName, UsageError
from uniap_core.events import Incumbent, Progress
from uniap_core.solve.request import SolveRequest
from uniap_core.solve.result import Stop, TrajectoryPoint
from uniap_core.testing import Limits, optimum, random_problem


@pytest.fixture(scope="module")
def problem():
    limits = Limits(layers=(6, 6), stages=(3, 3), strategies=(4, 4), grains=(1_000_000,))
    return random_problem(np.random.default_rng(4), limits, shape="skip", memory="tight")


@pytest.fixture(scope="module")
def compared(problem):
    events = []
    comparison = compare([problem], ["dp", "highs"], SolveRequest(time_limit_s=60), events.append)
    return comparison, events


def entry(solver, stop=Stop.OPTIMAL, objective_s=None, bound_s=None, **fields):
    return Entry(solver=solver, stop=stop, objective_s=objective_s, bound_s=bound_s, **fields)


def of(*entries):
    return ProblemComparison(
        name="p<1>", hash="sha256:0", layers=2, stages=1, micro_batches=1, strategies=2,
        entries=list(entries), contradictions=_contradictions(list(entries)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "claims"),
    [
        ([entry("a", objective_s=1.0, bound_s=1.0), entry("b", objective_s=1.0 + 1e-8, bound_s=1.0)], []),
        ([entry("a", objective_s=1.0, bound_s=1.0), entry("b", objective_s=1.1, bound_s=1.1)], ["b"]),
        ([entry("a", Stop.INFEASIBLE), entry("b", Stop.INFEASIBLE)], []),
        ([entry("a", Stop.INFEASIBLE), entry("b", Stop.TIME_LIMIT, objective_s=9.0)], ["a"]),
        ([entry("a", Stop.TIME_LIMIT, objective_s=2.0, bound_s=1.5), entry("b", objective_s=1.2, bound_s=1.2)], ["a"]),
        ([entry("a", Stop.TIME_LIMIT, objective_s=2.0, bound_s=1.0), entry("b", objective_s=1.2, bound_s=1.2)], []),
        ([entry("a", objective_s=1.0, bound_s=1.0), entry("b", objective_s=2.0, bound_s=2.0, exact=False)], []),
        ([entry("a", objective_s=0.0, bound_s=0.0), entry("b", objective_s=0.0, bound_s=0.0)], []),
        ([entry("a", None, error="crash"), entry("b", objective_s=1.0, bound_s=1.0)], []),
        ([entry("a", Stop.TIME_LIMIT), entry("b", Stop.TIME_LIMIT)], []),
    ],
)
def test_only_a_bound_above_an_assignment_contradicts(entries, claims):
    assert [c.claims for c in _contradictions(entries)] == claims


def test_real_solvers_agree_and_fill_every_column(problem, compared):
    comparison, events = compared
    (side_by_side,) = comparison.problems
    assert side_by_side.best_s == pytest.approx(optimum(problem).objective_s)
    for e in side_by_side.entries:
        assert (e.stop, side_by_side.agreement(e)) == (Stop.OPTIMAL, "agrees")
        assert e.gap == pytest.approx(0, abs=1e-6)
        assert None not in (e.build_s, e.solve_s)
        assert e.version
    sizes = {e.solver: e.columns for e in side_by_side.entries}
    assert sizes["dp"] is None
    assert sizes["highs"] > 0
    assert any(isinstance(e, Incumbent) for e in events)
    assert [e.done for e in events if isinstance(e, Progress)] == [0, 1, 2]


def test_a_comparison_survives_its_file(compared, tmp_path):
    comparison, _ = compared
    artifact.write(tmp_path / "c.json", comparison)
    assert artifact.read(tmp_path / "c.json", Comparison) == comparison


def test_an_unknown_solver_is_refused_before_anything_runs(problem):
    events = []
    with pytest.raises(UnknownName, match="nosuch"):
        compare([problem], ["dp", "nosuch"], emit=events.append)
    assert not events


def test_the_table_ranks_proofs_first_and_says_how_each_stands():
    side_by_side = of(
        entry("late", Stop.TIME_LIMIT, objective_s=1.5, bound_s=0.5),
        entry("slow", objective_s=1.0, bound_s=1.0, solve_s=9.0, build_s=1.0),
        entry("down", None, error="solver-lied-bound", cause="down says so"),
        entry("fast", objective_s=1.0, bound_s=1.0, solve_s=0.1, build_s=0.1),
        entry("mute", Stop.TIME_LIMIT),
    )
    assert [e.solver for e in ranked(side_by_side)] == ["fast", "slow", "late", "mute", "down"]
    last = {e.solver: cells(side_by_side, e)[-1] for e in side_by_side.entries}
    assert last == {
        "fast": "agrees",
        "slow": "agrees",
        "late": "+50.00%",
        "mute": "no answer",
        "down": "down says so",
    }
    assert table(side_by_side).row_count == 5
    assert all(len(cells(side_by_side, e)) == len(HEADINGS) for e in side_by_side.entries)


def test_curves_fall_and_rise_and_end_where_the_solver_ended():
    trajectory = [
        TrajectoryPoint(0.0, None, 0.5),
        TrajectoryPoint(0.1, 3.0, 0.4),
        TrajectoryPoint(0.2, 2.0, 0.8),
    ]
    timed = entry("a", objective_s=1.0, bound_s=1.0, build_s=0.5, solve_s=0.5, trajectory=trajectory)
    drawn = {c.kind: c.points for c in curves(of(timed, entry("nothing", Stop.TIME_LIMIT)))}
    assert drawn["incumbent"] == ((0.1, 3.0), (0.2, 2.0), (1.0, 1.0))
    assert drawn["bound"] == ((0.001, 0.5), (0.2, 0.8), (1.0, 1.0))


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("html", b"<!doctype html>")])
def test_drawings(compared, tmp_path, ending, start):
    if ending != "html":
        pytest.importorskip("matplotlib")
    path = tmp_path / f"c.{ending}"
    draw(compared[0], path)
    assert path.read_bytes().startswith(start)
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.html"):
        draw(compared[0], tmp_path / "c.txt")


def test_the_page_needs_nothing_else_and_escapes_names(compared):
    comparison, _ = compared
    hostile = of(entry("<b>", objective_s=1.0, bound_s=1.0, build_s=0.1, solve_s=0.1), entry("none", Stop.TIME_LIMIT))
    text = page(Comparison(time_limit_s=None, gap=0.0, threads=1, problems=[*comparison.problems, hostile, of()]))
    tags = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append(tag)
            assert not {"href", "src"} & {name for name, _ in attrs}

    Tags().feed(text)
    assert "script" not in tags
    assert "b" not in tags
    assert tags.count("svg") == 2
    for drawing in text.split("<svg")[1:]:
        ET.fromstring("<svg" + drawing.partition("</svg>")[0] + "</svg>")
