"""What verification costs: ``python -m bench.verifier``.

Times (the least of several runs) of a verdict on a 1024-device plan of llama3-405b, against pricing its candidate,
and of the simulation of 64 stages x 1024 micro-batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from uniap_core import models
from uniap_core.cluster import preset
from uniap_core.costs import Candidate, Training
from uniap_core.problem import Assignment
from uniap_core.proposal import propose
from uniap_core.search import Search, price
from uniap_core.verify import verify
from uniap_core.verify.simulate import TimedPipeline, simulate

RUNS = 5


def least(run: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs."""
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def verdicts() -> None:
    graph, machine, training = models.load("llama3-405b"), preset("128x8xH100-80G"), Training(global_batch=2048)
    search = Search(graph=graph, cluster=machine, training=training)
    print(f"{len(graph.layers)} layers, {machine.devices} devices")
    for pp, c in ((1, 1), (8, 64), (16, 128), (64, 1024)):
        candidate = Candidate.of(pp, c, training)
        tables = price(search, candidate)
        count = len(tables.layers)
        leanest = [int(np.argmin(layer.state_bytes + pp * layer.stash_bytes)) for layer in tables.layers]
        even = Assignment(tuple(u * pp // count for u in range(count)), tuple(leanest))
        proposal = propose(graph, machine, search.space, tables, even, solver="none", bound_s=None)
        fresh = iter([price(search, candidate) for _ in range(RUNS)])
        first = least(lambda: verify(proposal, next(fresh)))  # noqa: B023
        again = least(lambda: verify(proposal, tables))  # noqa: B023
        print(f"  pp {pp:>2} c {c:>4}: {first:.3f} s on freshly priced tables, {again:.3f} s in a sweep (hashes known)")


def simulations() -> None:
    depth, c = 64, 1024
    for schedule in ("gpipe", "1f1b"):
        pipeline = TimedPipeline(
            schedule=schedule,
            micro_batches=c,
            forward_s=np.ones(depth),
            backward_s=2 * np.ones(depth),
            iteration_s=np.ones(depth),
            activation_s=0.1 * np.ones(depth - 1),
            gradient_s=0.1 * np.ones(depth - 1),
        )
        seconds = least(lambda: simulate(pipeline))  # noqa: B023
        print(f"  {schedule}: {depth} stages x {c} micro-batches simulated in {seconds:.3f} s")


if __name__ == "__main__":
    verdicts()
    simulations()
