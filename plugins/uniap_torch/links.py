"""Collectives of every group shape, fitted to alpha + bytes * beta; and what a collective costs the compute beside it.

Bare collectives, and those that torch's runtime makes of them (:mod:`uniap_torch.runtime`).

Runs as one process per rank: ``profile`` starts them on this machine, and on several nodes
``torchrun ... -m uniap_torch.links --device cuda -o links.json`` does, whose file ``profile`` takes in.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from uniap_core.api import BadValue, Collective, CollectiveTiming, Span, divisors, read, warden, write

OPERATIONS: tuple[Collective, ...] = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")


class Links(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the ranks measured together."""

    collectives: list[CollectiveTiming]
    overlap: float | None


def measure(device: str, ranks: int, timeout_s: float = 300.0) -> Links:
    """Start that many ranks on this machine and let them measure.

    Raises
    ------
    BadValue
        If a rank dies or they do not finish in time; with the last words of the one that did.
    """
    with tempfile.TemporaryDirectory() as folder:
        warden.watch(folder=folder)
        out, meeting = Path(folder) / "links.json", Path(folder) / "meeting"
        command = [sys.executable, "-m", "uniap_torch.links", "--device", device, "-o", str(out)]
        running = []
        for rank in range(ranks):
            place = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(ranks),
                "LOCAL_WORLD_SIZE": str(ranks),
            }
            threads = {} if device == "cuda" else {"OMP_NUM_THREADS": "1"}
            environment = os.environ | place | threads | {"UNIAP_MEETING": f"file://{meeting}"}
            with open(Path(folder) / f"{rank}.log", "wb") as sink:
                running.append(
                    subprocess.Popen(
                        command, env=environment, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
                    )
                )
            warden.watch(group=running[-1].pid)
        deadline = time.monotonic() + timeout_s
        try:
            _wait(running, deadline)
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                process.wait()
                warden.release(group=process.pid)
        failed = next((r for r, p in enumerate(running) if p.returncode), None)
        if failed is not None or not out.exists():
            log = (Path(folder) / f"{failed or 0}.log").read_text(errors="replace").strip().splitlines()
            said = log[-1] if log else "no message"
            raise BadValue(f"rank {failed or 0} of {ranks} failed to measure collectives: {said}", "try fewer ranks")
        return read(out, Links)


def _wait(running: list[subprocess.Popen[bytes]], deadline: float) -> None:
    """Until all have ended, one has failed, or time is up."""
    while any(p.poll() is None for p in running) and not any(p.poll() for p in running):
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def shapes(world: int, node: int) -> Iterator[tuple[int, int, int]]:
    """Group shapes (ranks, stride, nodes) that tile a world of devices, ``node`` of them in a node."""
    for ranks in divisors(world)[1:]:
        for stride in divisors(world // ranks):
            yield ranks, stride, max(1, -(-ranks * stride // node)) if ranks * stride > node else 1


def fit(sizes: list[float], times: list[float]) -> tuple[float, float]:
    """Alpha and beta of ``time = alpha + size * beta``, least squares in relative error, neither negative."""
    points = [(size, time, time**-2) for size, time in zip(sizes, times, strict=True)]
    total = sum(w for _, _, w in points)
    x = sum(w * s for s, _, w in points) / total
    y = sum(w * t for _, t, w in points) / total
    spread = sum(w * (s - x) ** 2 for s, _, w in points)
    slope = sum(w * (s - x) * (t - y) for s, t, w in points) / spread if spread else 0.0
    beta = max(0.0, slope)
    if y >= beta * x:
        return y - beta * x, beta
    return 0.0, sum(w * s * t for s, t, w in points) / sum(w * s * s for s, _, w in points)


class Rank:
    """One process of the measurement."""

    def __init__(self, device: str) -> None:
        import torch
        import torch.distributed as dist

        self.dist, self.torch = dist, torch
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.node = int(os.environ.get("LOCAL_WORLD_SIZE", self.world))
        self.cuda = device == "cuda"
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if self.cuda else torch.device("cpu")
        if self.cuda:
            torch.cuda.set_device(self.device)
        more = {"init_method": os.environ["UNIAP_MEETING"]} if "UNIAP_MEETING" in os.environ else {}
        dist.init_process_group("nccl" if self.cuda else "gloo", rank=self.rank, world_size=self.world, **more)  # type: ignore[arg-type]
        self.sizes = [2**n for n in (range(16, 29, 2) if self.cuda else range(12, 23, 2))]
        self.rounds = 10 if self.cuda else 5

    def links(self) -> Links:
        """Everything, on every rank alike."""
        found = []
        for ranks, stride, nodes in shapes(self.world, self.node):
            groups = map(list, Span(ranks, stride).groups(range(self.world)))
            made = [(members, self.dist.new_group(members)) for members in groups]
            members, group = next((m, g) for m, g in made if self.rank in m)
            shape = {"ranks": ranks, "stride": stride, "nodes": nodes}
            for operation in OPERATIONS:
                if operation == "p2p" and ranks > 2:
                    continue
                times = [self.seconds(self.call(operation, size, members, group)) for size in self.sizes]
                alpha, beta = fit([float(s) for s in self.sizes], times)
                found.append(CollectiveTiming(operation=operation, alpha_s=alpha, beta_s_per_byte=beta, **shape))
            for operation, (alpha, beta) in self.runtime(group, tensor=stride == 1).items():
                found.append(CollectiveTiming(operation=operation, alpha_s=alpha, beta_s_per_byte=beta, **shape))
        return Links(found, self.overlap())

    def runtime(self, group: Any, *, tensor: bool) -> dict[Collective, tuple[float, float]]:
        """Alpha and beta of what torch's runtime makes of collectives."""
        from torch.distributed.device_mesh import DeviceMesh

        from . import runtime

        mesh = DeviceMesh.from_group(group, self.device.type)

        def lines(measured: list[tuple[float, float]]) -> list[tuple[float, float]]:
            return [fit([float(s) for s in runtime.SIZES], list(times)) for times in zip(*measured, strict=True)]

        gather, both = lines([runtime.sharded(size, mesh, self.device, self.clock) for size in runtime.SIZES])
        reduce = max(0.0, both[0] - gather[0]), max(0.0, both[1] - gather[1])
        found: dict[Collective, tuple[float, float]] = {"unshard": gather, "reduce_gradients": reduce}
        if tensor:
            whole, split = (
                lines([runtime.region(size, split, mesh, self.device, self.clock) for size in runtime.SIZES])
                for split in (False, True)
            )
            found |= {"tensor_forward": whole[0], "tensor_backward": whole[1]}
            found |= {"sequence_forward": split[0], "sequence_backward": split[1]}
        return found

    def clock(self, steps: list[Callable[[Any], Any]]) -> list[float]:
        """Median seconds of each of several steps, each fed the result of the last; of the slowest rank."""
        rounds = []
        for turn in range(self.rounds + 2):
            value, times = None, []
            for step in steps:
                self.dist.barrier()
                self.finish()
                began = time.perf_counter()
                value = step(value)
                self.finish()
                times.append(time.perf_counter() - began)
            if turn >= 2:
                rounds.append(times)
        return [self.slowest(statistics.median(times)) for times in zip(*rounds, strict=True)]

    def call(self, operation: str, size: int, members: list[int], group: Any) -> Callable[[], Any]:
        """One collective on a full tensor of ``size`` bytes."""
        torch, dist, ranks = self.torch, self.dist, len(members)
        full = torch.zeros(-(-size // 4 // ranks) * ranks, device=self.device)
        part = torch.zeros(full.numel() // ranks, device=self.device)
        if operation == "all_reduce":
            return lambda: dist.all_reduce(full, group=group)
        if operation == "all_gather":
            return lambda: dist.all_gather_single(full, part, group=group)
        if operation == "reduce_scatter":
            return lambda: dist.reduce_scatter_single(part, full, group=group)
        if operation == "all_to_all":
            other = torch.empty_like(full)
            return lambda: dist.all_to_all_single(other, full, group=group)
        peer = members[1 - members.index(self.rank)]
        first = self.rank == members[0]

        def exchange() -> None:
            if first:
                dist.send(full, peer, group=group)
            else:
                dist.recv(full, peer, group=group)

        return exchange

    def seconds(self, run: Callable[[], Any]) -> float:
        """Median seconds of a call, all ranks starting together; of the slowest rank."""
        return self.clock([lambda _: run()])[0]

    def finish(self) -> None:
        """Wait for the device."""
        if self.cuda:
            self.torch.cuda.synchronize()

    def slowest(self, seconds: float) -> float:
        """The time of the rank that took longest."""
        value = self.torch.tensor([seconds], dtype=self.torch.float64, device=self.device)
        self.dist.all_reduce(value, op=self.dist.ReduceOp.MAX)
        return max(1e-9, float(value.item()))

    def overlap(self) -> float:
        """Seconds of products beside an all-reduce that outlasts them, over their seconds alone."""
        torch, dist = self.torch, self.dist
        size = 4096 if self.cuda else 256
        left, right = (torch.randn(size, size, device=self.device) for _ in range(2))
        if self.cuda:
            left, right = left.bfloat16(), right.bfloat16()
        large = torch.zeros(self.sizes[-1] // 4, device=self.device)
        count = 20

        def products() -> None:
            for _ in range(count):
                left @ right

        alone = self.seconds(products)
        once = self.seconds(lambda: dist.all_reduce(large))
        needed = max(1, round(1.5 * alone / once))
        beside = []
        for _ in range(self.rounds):
            dist.barrier()
            self.finish()
            works = [dist.all_reduce(large, async_op=True) for _ in range(needed)]
            beside.append(self.timed(products))
            for work in works:
                work.wait()
            self.finish()
        return max(1.0, self.slowest(statistics.median(beside)) / alone)

    def timed(self, run: Callable[[], Any]) -> float:
        """Seconds of work on the current stream, whatever runs on others."""
        if not self.cuda:
            began = time.perf_counter()
            run()
            return time.perf_counter() - began
        first, last = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        run()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) * 1e-3


def main() -> None:
    """Measure as one rank; the first writes the file."""
    parser = argparse.ArgumentParser(description="Measure collectives as one rank of a group.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("-o", "--output", required=True)
    options = parser.parse_args()
    rank = Rank(options.device)
    found = rank.links()
    if rank.rank == 0:
        write(options.output, found)
    rank.dist.barrier()
    rank.dist.destroy_process_group()


if __name__ == "__main__":
    main()
