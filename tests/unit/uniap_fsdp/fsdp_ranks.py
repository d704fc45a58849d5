"""A pool of forked ranks that run functions together over gloo."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist

LIMIT_S = 120


class Ranks:
    """``world`` processes with one process group; a function that fails anywhere ends them all."""

    def __init__(self, world: int) -> None:
        self.world = world
        self.runs = 0
        context = multiprocessing.get_context("fork")
        torch.set_num_threads(1)
        store = tempfile.mktemp(prefix="uniap-ranks-")
        self.pipes: list[Connection] = []
        self.processes = []
        for rank in range(world):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(rank, world, store, there), daemon=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # fork of a process with threads
                process.start()
            there.close()
            self.pipes.append(here)
            self.processes.append(process)

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Results of ``function(*args)`` by rank."""
        self.runs += 1
        for pipe in self.pipes:
            pipe.send((function, args))
        results: list[Any] = [None] * self.world
        failures: list[str] = []
        waiting = dict(zip(self.pipes, range(self.world), strict=True))
        while waiting and (ready := wait(list(waiting), 5 if failures else LIMIT_S)):
            for pipe in ready:
                rank = waiting.pop(pipe)
                try:
                    good, results[rank] = pipe.recv()
                except EOFError:
                    good, results[rank] = False, "died"
                if not good:
                    failures.append(f"rank {rank}: {results[rank]}")
        failures += [f"rank {rank}: no answer" for rank in waiting.values()]
        if failures:
            self.close()
            raise AssertionError("\n".join(failures))
        return results

    @property
    def alive(self) -> bool:
        return bool(self.processes)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        for pipe in self.pipes:
            pipe.close()
        self.processes = []


def _serve(rank: int, world: int, store: str, pipe: Connection) -> None:
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    while True:
        try:
            function, args = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            pipe.send((True, function(*args)))
        except BaseException:
            pipe.send((False, traceback.format_exc()))
