"""Laws of whole requests: what a change of the job or of the machines does to the best plan, whatever that plan is.

No right value is needed: twice the work is never less time, what helps never hurts, a name changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uniap_cost_analytic.pricing import price

from uniap_core.cluster import Cluster, preset
from uniap_core.costs import Candidate, CostTables, LayerCosts, Training
from uniap_core.devices import Device
from uniap_core.errors import Infeasible
from uniap_core.estimate import estimate
from uniap_core.graph import ModelGraph
from uniap_core.models import load
from uniap_core.search import make, sweep
from uniap_core.strategy import StrategySpace
from uniap_core.tables import Array

TOLERANCE = 1e-9
INFEASIBLE = float("inf")

FAMILIES = {
    "gpt": {"layers": 3, "hidden": 256, "heads": 8, "vocab": 1001, "seq": 128},
    "llama": {"layers": 3, "hidden": 256, "heads": 8, "kv_heads": 4, "ffn": 512, "vocab": 1000, "seq": 128},
    "mixtral": {
        "layers": 2, "hidden": 256, "heads": 8, "kv_heads": 4, "ffn": 512, "experts": 4, "vocab": 1000, "seq": 128
    },
    "t5": {"layers": 2, "hidden": 128, "heads": 4, "ffn": 256, "vocab": 512, "seq": 64},
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A job on a machine."""

    family: str
    sizes: tuple[tuple[str, int], ...]
    machine: Cluster
    batch: int
    schedule: str = "1f1b"
    pins: tuple[str, ...] = ()

    @property
    def graph(self) -> ModelGraph:
        """The model."""
        return load(f"{self.family}:" + ",".join(f"{name}={size}" for name, size in self.sizes))

    def times(self, factor: int, *names: str) -> Request:
        """The same with some sizes so many times as large."""
        return replace(self, sizes=tuple((n, factor * size if n in names else size) for n, size in self.sizes))

    def best_s(self, graph: ModelGraph | None = None) -> float:
        """Seconds per iteration of the best plan, ``inf`` if none fits."""
        asked = make(graph or self.graph, self.machine, self.batch, schedule=self.schedule, pins=self.pins)
        try:
            return sweep(asked).plan.predicted.iteration_time_s
        except Infeasible:
            return INFEASIBLE


def request(family: str, machine: str, batch: int = 16, memory: float = 1.0, **rest: object) -> Request:
    """A small job; ``memory`` is the share of each device's that there is."""
    found = devices(preset(machine), lambda d: msgspec.structs.replace(d, memory_bytes=d.memory_bytes * memory))
    return Request(family, tuple(FAMILIES[family].items()), found, batch, **rest)  # type: ignore[arg-type]


def devices(cluster: Cluster, change) -> Cluster:
    """The cluster of changed devices."""
    return msgspec.structs.replace(cluster, nodes=tuple(node.with_devices(change) for node in cluster.nodes))


def faster(cluster: Cluster, factor: float) -> Cluster:
    """All that computes and moves so many times as fast."""
    put = msgspec.structs.replace

    def link(old):
        return put(old, bandwidth_Bps=old.bandwidth_Bps * factor, latency_s=old.latency_s / factor)

    def device(old: Device) -> Device:
        peak = {name: flops * factor for name, flops in old.peak_flops.items()}
        return put(old, peak_flops=peak, memory_Bps=old.memory_Bps * factor)

    found = devices(cluster, device)
    return put(found, nodes=tuple(put(n, link=link(n.link)) for n in found.nodes), inter=link(found.inter))


def renamed(graph: ModelGraph, name: str, order: list[int]) -> ModelGraph:
    """The same model under another name, the names of its layers permuted."""
    put, names = msgspec.structs.replace, [layer.name for layer in graph.layers]
    new = {old: names[i] for old, i in zip(names, order, strict=True)}
    layers = tuple(put(layer, name=new[layer.name]) for layer in graph.layers)
    edges = tuple(put(e, source=new[e.source], target=new[e.target]) for e in graph.edges)
    return put(graph, name=name, layers=layers, edges=edges)


# --- the best plan ----------------------------------------------------------------------------------------------

JOBS = st.builds(
    request,
    st.sampled_from(sorted(FAMILIES)),
    st.sampled_from(["4xA100-80G", "2x2xV100-32G"]),
    memory=st.sampled_from([0.0175, 0.02, 1.0]),
)
few = settings(max_examples=3)


@few
@given(JOBS, st.integers(2, 3))
def test_more_memory_is_never_worse(job, factor):
    more = devices(job.machine, lambda d: msgspec.structs.replace(d, memory_bytes=d.memory_bytes * factor))
    assert replace(job, machine=more).best_s() <= job.best_s() * (1 + TOLERANCE)


@few
@given(JOBS, st.sampled_from([1.5, 4.0]))
def test_a_machine_k_times_as_fast_is_never_slower_nor_more_than_k_times_as_fast(job, k):
    # What takes its time on any machine (launches, hosts) is the difference.
    before, after = job.best_s(), replace(job, machine=faster(job.machine, k)).best_s()
    assert before / k * (1 - TOLERANCE) <= after <= before * (1 + TOLERANCE)


@few
@given(JOBS, st.randoms(use_true_random=False))
def test_names_change_nothing(job, chance):
    graph = job.graph
    order = list(range(len(graph.layers)))
    chance.shuffle(order)
    machine = msgspec.structs.replace(job.machine, name="deepseek-v3", price_per_device_hour=123.0)
    other = replace(job, machine=machine).best_s(renamed(graph, "gpt-4 8xB200", order))
    assert other == pytest.approx(job.best_s(), rel=TOLERANCE)


@few
@given(JOBS, st.sampled_from(["tp=1", "pp=2", "sharding!=zero3", "recompute=none", "max_strategies=1", "c>=2"]))
def test_freedom_is_never_worse(job, pin):
    pinned, free = replace(job, pins=(pin,)), replace(job, schedule="any")
    seconds = [job.best_s() for job in (free, job, pinned)]
    for less, more in pairwise(seconds):
        assert less <= more * (1 + TOLERANCE)


@few
@given(st.sampled_from(sorted(FAMILIES)), st.sampled_from(["4xA100-80G", "2x2xV100-32G"]))
def test_twice_the_batch_takes_longer_and_at_most_twice_as_long(family, machine):
    # Memory is ample: the best plan for half the batch, with twice the micro-batches, is one for the whole.
    job = request(family, machine)
    once, twice = job.best_s(), replace(job, batch=2 * job.batch).best_s()
    assert once * (1 - TOLERANCE) <= twice <= 2 * once * (1 + TOLERANCE)


@few
@given(JOBS, st.sampled_from(["seq", "layers", "hidden", "ffn", "vocab"]))
def test_more_work_is_never_less_time(job, size):
    assert job.times(2, size).best_s() >= job.best_s() * (1 - TOLERANCE)


def test_more_devices_of_a_kind_are_never_worse_where_work_outweighs_what_they_must_agree_on():
    wide = (("layers", 2), ("hidden", 2048), ("heads", 16), ("vocab", 8192), ("seq", 2048))
    seconds = [Request("gpt", wide, preset(f"{n}xA100-80G"), 32).best_s() for n in (1, 2, 4)]
    for fewer, more in pairwise(seconds):
        # And no more than twice as fast: half the devices could do the same in turns.
        assert fewer / 2 * (1 - TOLERANCE) <= more <= fewer


# --- every strategy's price -------------------------------------------------------------------------------------


def tables(job: Request, pp: int, training: Training) -> CostTables:
    """The tables of two micro-batches."""
    return price(job.graph, job.machine, StrategySpace(), Candidate.of(pp, 2, training))


def whole(layer: LayerCosts, turns: float) -> Array:
    """Seconds of an iteration of so many turns, by rank and strategy."""
    return turns * (layer.forward_s + layer.backward_s) + layer.iteration_s


@settings(max_examples=20)
@given(st.data())
def test_more_work_takes_no_less_time_and_memory_in_any_strategy(data):
    family = data.draw(st.sampled_from(sorted(FAMILIES)))
    job = request(family, data.draw(st.sampled_from(["4xA100-80G", "2x2xV100-32G"])))
    size = data.draw(st.sampled_from([name for name, _ in job.sizes if "heads" not in name and name != "layers"]))
    training = Training(
        global_batch=16,
        precision=data.draw(st.sampled_from(["fp16", "fp32"])),
        loss=data.draw(st.sampled_from(["whole", "chunked"])),
        tensor_overlap=data.draw(st.sampled_from(["none", "all"])),
    )
    pp, factor = data.draw(st.sampled_from([1, 2])), data.draw(st.sampled_from([2, 3]))
    less, more = (tables(one, pp, training) for one in (job, job.times(factor, size)))
    for a, b in zip(less.layers, more.layers, strict=True):
        at = {s: k for k, s in enumerate(b.strategies)}
        for k, strategy in enumerate(a.strategies):
            if strategy not in at:  # three times as many do not divide by all that once as many do
                continue
            j, words = at[strategy], (a.name, strategy.name, size)
            # What a longer backward pass hides of the reductions is not to be seen in either of them alone.
            for x, y in ((a.forward_s[:, k], b.forward_s[:, j]), (whole(a, 2)[:, k], whole(b, 2)[:, j])):
                assert (y >= x * (1 - TOLERANCE)).all(), words
            for field in ("state_bytes", "stash_bytes"):
                assert getattr(b, field)[j] >= getattr(a, field)[k] * (1 - TOLERANCE), (*words, field)


# --- rows of a table --------------------------------------------------------------------------------------------

ROW = {
    "system": "Megatron-LM", "gpu": "A100-80GB", "num_gpus": "16", "model": "m", "layers": "8", "hidden": "1024",
    "heads": "16", "kv_heads": "8", "ffn": "2048", "vocab": "32000", "seq": "1024", "global_batch": "64",
    "micro_batch": "2", "tp": "2", "pp": "2", "sharding": "zero1", "recompute": "none", "precision": "bf16",
}  # fmt: skip


@settings(max_examples=30)
@given(st.data())
def test_a_row_of_more_work_takes_no_less_time_and_memory(data):
    row = ROW | {
        "system": data.draw(st.sampled_from(["Megatron-LM", "DeepSpeed", "FSDP", "torchtitan"])),
        "gpu": data.draw(st.sampled_from(["A100-80GB", "V100-32GB", "H100-80GB"])),
        "tp": data.draw(st.sampled_from(["1", "2", "4"])),
        "pp": data.draw(st.sampled_from(["1", "2"])),
        "recompute": data.draw(st.sampled_from(["none", "selective", "full"])),
        "precision": data.draw(st.sampled_from(["fp16", "fp32"])),
    }
    experts = data.draw(st.sampled_from([{}, {"experts": "8", "top_k": "2", "ep": "2"}]))
    name = data.draw(st.sampled_from(["layers", "hidden", "ffn", "vocab", "seq", "global_batch"]))
    factor = data.draw(st.integers(2, 3)) if name != "global_batch" else 2
    less, more = estimate([row | experts, row | experts | {name: str(factor * int(row[name]))}])
    for column in ("pred_iter_time_s", "pred_mem_gib"):
        assert float(more[column]) >= float(less[column]) * (1 - TOLERANCE), (column, less["pred_note"])
