"""What the FSDP executor costs, and how well predictions rank its step times.

``overhead``: step time of the executor against a training loop written by hand with torch's FSDP2 for the same
uniform plan, in one process group, steps taken in turns; the ratio of the fastest steps is printed (it must be
within 1.05).

``rank``: step times of different plans of one model on the CPUs at hand, against their predictions by the profiled
cost model, from a profile made first, while all ranks work (or the one named by ``--profile``; ``--analytic`` for the
analytic model): Kendall's tau, a table, and with ``--picture`` a plot.

    python bench/fsdp.py overhead --ranks 2
    python bench/fsdp.py rank --picture rank.png
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import uniap
from uniap_core.api import Cluster, Device, Job, Link, Node, Plan
from uniap_zoo import build

BATCH = 16
MODEL = "llama:layers=4,hidden=256,heads=8,ffn=704,vocab=2048,seq=128"


def spawn(world: int, function: Any, *args: Any) -> Any:
    """Result of ``function(*args)`` on rank 0 of forked ranks."""
    context = multiprocessing.get_context("fork")
    torch.set_num_threads(1)
    store, queue = tempfile.mktemp(), context.Queue()

    def serve(rank: int) -> None:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
        result = function(*args)
        if rank == 0:
            queue.put(result)
        dist.barrier()
        dist.destroy_process_group()

    processes = [context.Process(target=serve, args=(rank,)) for rank in range(world)]
    for process in processes:
        process.start()
    result = queue.get(timeout=1800)
    for process in processes:
        process.join()
    return result


# --- overhead ---------------------------------------------------------------------------------------------------


def by_hand(graph: Any, batch: int, micro_batches: int) -> Any:
    """The loop that a person would write: one fully_shard per layer, accumulation, clipping, AdamW."""
    from uniap_fsdp.data import Stream
    from uniap_fsdp.source import fill_all, load

    source = load(graph)
    world, rank = dist.get_world_size(), dist.get_rank()
    model = fill_all(source.model, 0)
    mesh = init_device_mesh("cpu", (world,))
    for layer in (model.embedding, *model.layers, model.head):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    stream = Stream(source.task, batch, 0, (graph.architecture["vocab"],))
    size = batch // micro_batches // world

    def step(number: int) -> float:
        inputs, (targets,) = stream.step(number)
        optimizer.zero_grad()
        total = torch.zeros(())
        for k in range(micro_batches):
            at = k * batch // micro_batches + rank * size
            model.set_is_last_backward(k == micro_batches - 1)
            logits = model(inputs["tokens"][at : at + size])
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[at : at + size].flatten())
            (loss / micro_batches).backward()
            total += loss.detach() / micro_batches
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        dist.all_reduce(total)
        return float(total) / world

    return step


def by_plan(plan: Any) -> Any:
    from uniap_fsdp.data import Stream
    from uniap_fsdp.parallel import apply
    from uniap_fsdp.reduce import optimizer
    from uniap_fsdp.source import load
    from uniap_fsdp.train import _iterate
    from uniap_fsdp.where import Where

    source = load(plan.model)
    parallel = apply(source, plan, "cpu")
    made = optimizer(plan.training.optimizer, parallel.held, 1e-3)
    stream = Stream(source.task, plan.global_batch, 0, (plan.model.architecture["vocab"],))
    where = Where()
    return lambda number: _iterate(parallel, made, stream, number, 1.0, where)[0]


def compare(plan: Any, micro_batches: int, steps: int) -> dict[str, Any]:
    loops = {
        "by hand": by_hand(plan.model, plan.global_batch, micro_batches),
        "executor": by_plan(plan),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    losses: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(steps):
        for name in sorted(loops, reverse=bool(number % 2)):
            dist.barrier()
            start = time.perf_counter()
            losses[name].append(loops[name](number))
            dist.barrier()
            seconds[name].append(time.perf_counter() - start)
    for a, b in zip(*losses.values(), strict=True):
        assert abs(a - b) < 1e-4 * abs(a), losses
    best = {name: min(values[2:]) for name, values in seconds.items()}
    middle = {name: sorted(values[2:])[len(values[2:]) // 2] for name, values in seconds.items()}
    return {
        "best_s": best,
        "median_s": middle,
        "ratio_of_best": best["executor"] / best["by hand"],
        "ratio_of_medians": middle["executor"] / middle["by hand"],
    }


def overhead(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = {}
    hardware = cluster(arguments.ranks, {})
    for micro_batches in (1, 4):
        plan = planned(hardware, ["pp=1", f"micro_batches={micro_batches}", "tp=1", "sharding=zero3", "recompute=none"])
        row = spawn(arguments.ranks, compare, plan, micro_batches, arguments.steps)
        rows[f"dp{arguments.ranks}-zero3, {micro_batches} micro-batches"] = row
        print(
            f"dp{arguments.ranks}-zero3, {micro_batches} micro-batches: executor / by hand = "
            f"{row['ratio_of_best']:.3f} (medians {row['ratio_of_medians']:.3f})"
        )
    return rows


# --- prediction against measurement ------------------------------------------------------------------------------


def cluster(ranks: int, figures: dict[str, float]) -> Cluster:
    """CPUs as devices of one node, with measured or nominal figures."""
    link = Link("pcie", figures.get("link_Bps", 1e9), figures.get("latency_s", 1e-4))
    device = Device(
        name="cpu",
        memory_bytes=8e9,
        peak_flops={"fp32": figures.get("flops", 3e10)},
        memory_Bps=figures.get("memory_Bps", 8e9),
        matmul_ceiling=1.0,
        launch_s=figures.get("launch_s", 1e-5),
        source="measured by bench/fsdp.py",
    )
    return Cluster(name=f"{ranks}xcpu", nodes=(Node(device, ranks, link),), inter=link)


def figures() -> dict[str, float]:
    """What the ranks reach while all of them work: products, copies, small operators, all-reduce."""

    def best(function: Any, repeat: int = 5) -> float:
        times = []
        for _ in range(repeat):
            dist.barrier()
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    a, b = torch.randn(512, 512), torch.randn(512, 512)
    big, small, message = torch.randn(2**23), torch.randn(64), torch.randn(2**20)
    one = best(lambda: [a @ b for _ in range(20)]) / 20
    copy = best(lambda: big.clone())
    launch = best(lambda: [small + small for _ in range(1000)]) / 1000
    latency = best(lambda: [dist.all_reduce(small) for _ in range(50)]) / 50
    moved = best(lambda: dist.all_reduce(message))
    world = dist.get_world_size()
    volume = 2 * (world - 1) / world * message.nbytes
    return {
        "flops": 2 * 512**3 / one,
        "memory_Bps": 2 * big.nbytes / copy,
        "launch_s": launch,
        "latency_s": latency / (2 * (world - 1)),
        "link_Bps": volume / max(moved - latency, 1e-6),
    }


PLANS: tuple[tuple[str, ...], ...] = (
    ("pp=1", "micro_batches=1", "tp=1", "sharding=none", "recompute=none"),
    ("pp=1", "micro_batches=1", "tp=1", "sharding=zero3", "recompute=none"),
    ("pp=1", "micro_batches=1", "tp=1", "sharding=zero2", "recompute=full"),
    ("pp=1", "micro_batches=4", "tp=1", "sharding=zero1", "recompute=none"),
    ("pp=1", "micro_batches=8", "tp=1", "sharding=zero3", "recompute=none"),
    ("pp=1", "micro_batches=8", "tp=1", "sharding=zero3", "recompute=full"),
    ("pp=1", "micro_batches=1", "tp=2", "recompute=none"),
    ("pp=1", "micro_batches=4", "tp=2", "recompute=none"),
    ("pp=1", "micro_batches=4", "tp=2", "recompute=full"),
    ("pp=2", "micro_batches=1", "recompute=none"),
    ("pp=2", "micro_batches=4", "recompute=none"),
    ("pp=2", "micro_batches=8", "recompute=full"),
)
"""Twelve plans of two ranks that differ in everything a plan decides."""


def measure(plan: Any, steps: int) -> float:
    """Fastest iteration, seconds (the slowest rank's)."""
    from uniap_fsdp.train import train

    measured, _ = train(plan, Job(steps=steps), "cpu")
    return min(measured.step_s[1:])


def planned(hardware: Cluster, pins: Any, profile: str | None = None) -> Plan:
    options = {"cost_model": "profiled", "profile": profile} if profile else {}
    return uniap.plan(build(MODEL), hardware, BATCH, precision="fp32", pins=list(pins), **options).plan


def own_profile(path: str) -> str:
    """Profile of this machine at ``path``."""
    from uniap_torch.profiler import profile

    profile(build(MODEL), path=path, tp=(1, 2), samples=(1, 2, 4, 8, 16), ranks=2)
    return path


def rank(arguments: argparse.Namespace) -> dict[str, Any]:
    hardware = cluster(2, spawn(2, figures))
    if not arguments.analytic and not arguments.profile:
        arguments.profile = own_profile(str(Path(tempfile.mkdtemp()) / "profile.json"))
    plans = {" ".join(pins): planned(hardware, pins, arguments.profile) for pins in PLANS}
    seconds = dict.fromkeys(plans, float("inf"))
    for _ in range(arguments.rounds):
        # In rounds, so that what else the machine does at one time falls on all plans.
        for pins, plan in plans.items():
            seconds[pins] = min(seconds[pins], spawn(2, measure, plan, arguments.steps))
    rows = [
        {"pins": pins, "predicted_s": plan.predicted.iteration_time_s, "measured_s": seconds[pins]}
        for pins, plan in plans.items()
    ]
    for row in rows:
        print(f"{row['predicted_s']:9.4f} s predicted {row['measured_s']:9.4f} s measured  {row['pins']}", flush=True)
    value = tau([row["predicted_s"] for row in rows], [row["measured_s"] for row in rows])
    print(f"Kendall tau of {len(rows)} plans: {value:.3f}")
    if arguments.picture:
        draw(rows, value, arguments.picture)
    return {"figures": msgspec.to_builtins(hardware.nodes[0]), "plans": rows, "kendall_tau": value}


def tau(x: list[float], y: list[float]) -> float:
    """Kendall's rank correlation: pairs in the same order minus pairs in the other, over all pairs."""
    pairs = list(itertools.combinations(range(len(x)), 2))
    agree = sum(1 if (x[i] - x[j]) * (y[i] - y[j]) > 0 else -1 for i, j in pairs)
    return agree / len(pairs)


def draw(rows: list[dict[str, Any]], value: float, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 5))
    predicted, measured = [row["predicted_s"] for row in rows], [row["measured_s"] for row in rows]
    ends = min(predicted + measured), max(predicted + measured)
    axes.plot(ends, ends, color="0.8")
    axes.scatter(predicted, measured)
    axes.set(xscale="log", yscale="log", xlabel="predicted, s per iteration", ylabel="measured, s per iteration")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
    axes.tick_params(which="minor", labelsize="small")
    axes.set_title(f"{len(rows)} plans on two CPU ranks, Kendall tau {value:.2f}")
    figure.savefig(path, bbox_inches="tight", dpi=150)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "rank"))
    parser.add_argument("--ranks", type=int, default=2, help="of overhead")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3, help="of rank: each plan is measured so often")
    parser.add_argument("--profile", help="of rank: a uniap.profile/1 file to predict by")
    parser.add_argument("--analytic", action="store_true", help="of rank: predict by the analytic model")
    parser.add_argument("--picture", help="write a plot here")
    parser.add_argument("--json", help="write the figures here")
    arguments = parser.parse_args()
    result = {"overhead": overhead, "rank": rank}[arguments.what](arguments)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
