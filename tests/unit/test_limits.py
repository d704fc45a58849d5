"""Numbers at the edge: refused where they enter, the same in options, calls and files."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math

import msgspec
import pytest

from bench import corruptions
from uniap_core import artifact, limits
from uniap_core import plan as plans
from uniap_core.architecture import ENTRIES, mistyped
from uniap_core.cluster import MOST_DEVICES, Cluster, from_toml, load, preset
from uniap_core.errors import BadFile, BadValue, UniapError
from uniap_core.estimate import estimate
from uniap_core.models import load as load_model
from uniap_core.profile import Profile
from uniap_core.search import make, tables_of
from uniap_core.solve.driver import solve
from uniap_core.solve.request import SolveRequest
from uniap_core.strategy import divisors
from uniap_core.testing import hard_problem

SMALL = "gpt:layers=2,hidden=32,heads=2,vocab=64,seq=16"


@pytest.mark.parametrize("solver", ["dp", "highs", "cbc"])
@pytest.mark.parametrize("seconds", [math.inf, 1e308, 1e20])
def test_a_limit_of_for_ever_is_none(solver, seconds):
    assert solve(hard_problem(3, 2, 2), solver, SolveRequest(time_limit_s=seconds)).stop == "optimal"


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_limit_s": math.nan},
        {"time_limit_s": -1.0},
        {"threads": 0},
        {"threads": 1_000_000},
        {"seed": -1},
        {"seed": 10**12},
        {"gap": 1e308},
        {"gap": 1.0},
        {"gap": math.nan},
        {"memory_limit_bytes": -1},
    ],
)
@pytest.mark.parametrize("solver", ["dp", "highs"])
def test_a_request_beyond_the_bounds_is_refused_before_any_solver(wrong, solver):
    with pytest.raises(BadValue, match=next(iter(wrong))):
        solve(hard_problem(3, 2, 2), solver, SolveRequest(**wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 10**18},
        {"batch": 0},
        {"batch": -4},
        {"batch": 10**400},
        {"seq": 0},
        {"seq": 10**20},
        {"gap": 1.0},
        {"time_limit": math.nan},
        {"workers": 0},
        {"top": 0},
    ],
)
def test_a_search_beyond_the_bounds_is_refused(wrong):
    with pytest.raises(BadValue):
        make(SMALL, "2xV100-32G", **({"batch": 4} | wrong))


@pytest.mark.parametrize("value", ["-1.0", "nan", "inf", "1e308", "0.0"])
@pytest.mark.parametrize("field", ["inter_GBps", "memory_gib", "link_GBps"])
def test_a_cluster_of_strange_figures_is_refused(field, value):
    inside = field != "inter_GBps"
    line = f"{field} = {value}\n"
    with pytest.raises(BadFile, match=field):
        from_toml(
            f'name = "c"\n{"" if inside else line}[[nodes]]\nkind = "V100-32G"\ndevices = 2\n{line if inside else ""}'
        )


@pytest.mark.parametrize("field", ["inter_latency_us", "price_per_device_hour"])
@pytest.mark.parametrize("value", ["-1.0", "nan", "inf"])
def test_negative_and_missing_latencies_and_prices_are_refused(field, value):
    with pytest.raises(BadFile, match=field):
        from_toml(f'name = "c"\n{field} = {value}\n[[nodes]]\nkind = "V100-32G"\ndevices = 2\n')
    cluster = preset("2x2xV100-32G")
    figure = float(value)
    with pytest.raises(BadValue):
        msgspec.structs.replace(cluster, price_per_device_hour=figure)
    with pytest.raises(BadValue):
        msgspec.structs.replace(cluster, inter=msgspec.structs.replace(cluster.inter, latency_s=figure))


def test_clusters_have_bounded_sizes():
    node = '[[nodes]]\nkind = "V100-32G"\ndevices = 8\n'
    with pytest.raises(UniapError):
        from_toml(f'name = "c"\n{node}count = 1000000000\n')
    with pytest.raises(BadValue):
        from_toml(f'name = "c"\n{node}count = {MOST_DEVICES // 8 + 1}\n')
    with pytest.raises(BadFile, match="too many parts"):
        from_toml("a." * 100_000 + "a = 1\n")
    with pytest.raises(BadFile):
        from_toml("a = " + "[" * 100_000 + "\n")
    for name in ("1000000000xV100-32G", "9" * 5000 + "x8xV100-32G", "100000x100000xH100-80G"):
        with pytest.raises(BadValue):
            load(name)


def test_integers_beyond_a_float_are_refused_in_graphs():
    graph = load_model(SMALL)
    document = msgspec.to_builtins(graph)
    operator = document["layers"][1]["operators"][1]
    for field in ("inner", "parameters"):
        for value in (10**400, 10**30, -1):
            changed = {**document, "layers": [{**document["layers"][1], "operators": [{**operator, field: value}]}]}
            text = str(changed).replace("'", '"').replace("True", "true").replace("False", "false")
            with pytest.raises(BadFile, match=field):
                artifact.decode(text.replace("(", "[").replace(")", "]"), type(graph))


@pytest.mark.parametrize("wrong", [{"tp": 0}, {"forward_s": -1.0}, {"samples": -1}, {"peak_bytes": -1}])
def test_a_profile_of_nothing_is_refused(wrong):
    layer = {"layer": "x", "tp": 1, "samples": 1, "sequence": 16, "forward_s": 1e-3, "backward_s": 1e-3} | wrong
    with pytest.raises(BadFile, match=next(iter(wrong))):
        artifact.decode(msgspec.json.encode({"schema": "uniap.profile/1", "device": "d", "layers": [layer]}), Profile)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pp": -1},
        {"pp": 0},
        {"micro_batches": 0},
        {"micro_batches": -2},
        {"global_batch": -4},
        {"training": {"precision": "bf17"}},
        {"training": {"precision": "bf17"}, "precision": "bf17"},
        {"training": {"global_batch": -4}, "global_batch": -4},
        {"training": {"global_batch": -4}},
    ],
)
def test_a_plan_that_nothing_can_price_is_refused(small_plan, wrong, tmp_path):
    document = json.loads(small_plan)
    for name, value in wrong.items():
        document[name] = document[name] | value if isinstance(value, dict) else value
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UniapError):
        tables_of(plans.read(path))


@pytest.fixture(scope="module")
def small_plan(tmp_path_factory):
    from uniap_core.search import sweep

    path = tmp_path_factory.mktemp("plan") / "plan.json"
    plans.write(path, sweep(make(SMALL, "2xV100-32G", 4)).plan)
    return path.read_text()


@pytest.mark.parametrize("wrong", [{"hidden": "1e308"}, {"layers": "1000000000"}, {"tp": "-1"}, {None: ["more"]}])
def test_a_row_beyond_the_bounds_is_not_predicted_and_stops_nothing(wrong):
    names, values = (line.split(",") for line in corruptions.TABLE.splitlines())
    row = dict(zip(names, values, strict=True))
    first, second = estimate([row | wrong, row])
    assert second["pred_iter_time_s"]
    assert None in wrong or first["pred_note"].startswith("not predicted")


@pytest.mark.parametrize("number", [1, 2, 12, 97, 360, 2**39, 10**12, 10**12 - 11, 999983**2])
def test_divisors_are_all_divisors(number):
    found = divisors(number)
    assert found == tuple(sorted(set(found)))
    assert all(number % d == 0 for d in found)
    if number < 1000:
        assert found == tuple(d for d in range(1, number + 1) if number % d == 0)
    assert {number // d for d in found} == set(found)


def test_too_many_layers_are_refused_before_they_are_built():
    with pytest.raises(BadValue, match="layers"):
        load_model("gpt:layers=1000000000,hidden=32,heads=2,vocab=64,seq=16")


def test_random_corruptions_end_in_named_errors(tmp_path):
    found = [trial for trial in corruptions.trials(80, 5, tmp_path) if trial.defect]
    assert not found, found


def test_fields_of_a_cluster_are_bounded_in_json_too():
    document = msgspec.to_builtins(preset("2x2xV100-32G"))
    document["inter"]["latency_s"] = -1.0
    with pytest.raises(BadFile, match="latency_s"):
        artifact.decode(msgspec.json.encode(document), Cluster)


@pytest.mark.parametrize("value", [10**400, -(10**400), 2**2000, 1e308, math.inf, math.nan, -1, True, "x", None, [3]])
def test_no_entry_of_an_architecture_takes_a_number_that_is_none(value):
    for name, entry in ENTRIES.items():
        numeric = type(entry.neutral) in (int, float)
        if numeric or value in (None, [3]):
            assert list(mistyped({name: value})) == [f"{name} is {value!r}"]


def test_every_type_refuses_nan():
    for kind in (limits.Amount, limits.Positive, limits.Seconds, limits.Gap, limits.Rate):
        with pytest.raises(BadValue):
            limits.check(math.nan, kind, "it")


def test_more_processes_than_cores_or_candidates_are_not_started(monkeypatch):
    sweeps = importlib.import_module("uniap_core.search.sweep")
    sizes = []

    class Counted(sweeps.Crew):
        def __init__(self, size):
            sizes.append(size)
            super().__init__(1)

    monkeypatch.setattr(sweeps, "Crew", Counted)
    sweeps.sweep(dataclasses.replace(make(SMALL, "2xV100-32G", 4), workers=10_000))
    assert sizes[0] <= 12
