"""A cost model's version goes up whenever prices move: the prices of a fixed set of layers are on file per version.

To put new prices on file, raise ``version`` in the plugin's descriptor and run this file as a script.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from uniap_core import cluster, models, registry
from uniap_core.costs import Candidate, Training, identity
from uniap_core.posing import pose
from uniap_core.profile import CollectiveTiming, LayerTiming, Profile
from uniap_core.strategy import StrategySpace

FILE = Path(__file__).parents[1] / "data" / "prices.json"

SET = (
    ("llama-7b", "2x8xA100-80G", 2, 8, "bf16"),
    ("bert-huge", "8xV100-32G", 1, 2, "fp16"),
    ("mixtral-8x7b", "4x8xH100-80G", 4, 8, "bf16"),
    ("t5-large", "2x8xH200", 2, 4, "fp8"),
    ("swin-huge", "2x4xTITANXp-12G", 2, 4, "fp32"),
)

PROFILE = Profile(
    device="A100",
    layers=[
        LayerTiming(
            layer="layers.0", tp=tp, samples=samples, sequence=2048, forward_s=0.01 * samples / tp, backward_s=0.021
        )
        for tp in (1, 2)
        for samples in (1, 4)
    ],
    collectives=[
        CollectiveTiming(operation="all_reduce", ranks=8, stride=1, nodes=1, alpha_s=3e-5, beta_s_per_byte=8e-12)
    ],
)


def prices(name: str) -> dict[str, list[list[float]]]:
    """Seconds and bytes of the first block, of the head, of an edge and of the reserve, of every fifth strategy.

    A layer's are those it is priced at, and the seconds per micro-batch that it is posed with.
    """
    plugin = registry.load("cost model", name)
    price = registry.resolve(plugin.price)
    found = {}
    for model, machine, pp, c, precision in SET if name == "analytic" else SET[:1]:
        graph, where = models.load(model), cluster.load(machine)
        candidate = Candidate.of(pp, c, Training(global_batch=64, precision=precision))
        space = StrategySpace(ep=(1, 2, 4), cp=(1, 2))
        tables = price(graph, where, space, candidate, PROFILE if plugin.needs_profile else None)
        rows = []
        for layer, posed in ((tables.layers[u], pose(tables).layers[u]) for u in (1, -1)):
            columns = (
                layer.forward_s[0],
                layer.backward_s[0],
                layer.iteration_s[0],
                layer.state_bytes,
                layer.stash_bytes,
                posed.time_s[0],
            )
            rows += [[float(x) if x < float("inf") else -1.0 for x in values[::5]] for values in columns]
        rows.append(tables.edges[0].reshard_s.ravel()[::7][:40].tolist())
        rows.append(tables.edges[0].cross_s.ravel()[::7][:40].tolist())
        rows.append([rank.reserved_bytes for rank in tables.ranks])
        found[f"{model} on {machine}"] = rows
    return found


@pytest.mark.parametrize("name", ["analytic", "profiled"])
def test_prices_are_those_on_file_for_this_version(name, monkeypatch):
    monkeypatch.delenv("UNIAP_CONSTANTS", raising=False)
    filed = json.loads(FILE.read_text())[name]
    plugin = registry.load("cost model", name)
    now = prices(name)
    same = all(
        row == pytest.approx(old, rel=1e-9, abs=1e-15)
        for key in filed["prices"]
        for row, old in zip(now[key], filed["prices"][key], strict=True)
    )
    if plugin.version == filed["version"]:
        assert same, f"prices of {name} moved: raise its version and put them on file (run {Path(__file__).name})"
    else:
        pytest.fail(f"{name}/{plugin.version} is not on file: run {Path(__file__).name} to put its prices there")


def test_the_digest_follows_the_constants(tmp_path, monkeypatch):
    monkeypatch.delenv("UNIAP_CONSTANTS", raising=False)
    plugin = registry.load("cost model", "analytic")
    shipped = identity(plugin)
    other = tmp_path / "constants.toml"
    other.write_text("[hopper]\nmatmul_share = 0.5\n")
    monkeypatch.setenv("UNIAP_CONSTANTS", str(other))
    changed = identity(plugin)
    assert shipped.partition("+")[0] == changed.partition("+")[0]
    assert shipped != changed
    monkeypatch.delenv("UNIAP_CONSTANTS")
    assert identity(plugin) == shipped


def file_prices() -> None:
    """Put today's prices on file; a version that is there already is not overwritten."""
    filed = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in ("analytic", "profiled"):
        version = registry.load("cost model", name).version
        now = {"version": version, "prices": prices(name)}
        if name in filed and filed[name]["version"] == version and filed[name] != now:
            sys.exit(f"{name}/{version} has other prices on file: raise the version first")
        filed[name] = now
    FILE.write_text(json.dumps(filed) + "\n")


if __name__ == "__main__":
    file_prices()
