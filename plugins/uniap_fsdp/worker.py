"""One rank of a launched plan: ``torchrun ... -m uniap_fsdp.worker FOLDER``, with plan.json and job.json in it."""

from __future__ import annotations

import datetime
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.distributed as dist

from uniap_core.api import Job, Plan, RunReport, StageReport, UniapError, admit, read, read_plan, warden, write

from .machine import check_device_memory, device_bytes, device_kind
from .train import Measured, train
from .where import Where

PROGRESS = "progress.jsonl"
REPORT = "report.json"


def main() -> int:
    """Train, and leave a report (rank 0) or the story of a failure."""
    if "UNIAP_AGENT" in os.environ:
        warden.follow(int(os.environ["UNIAP_AGENT"]))
    folder = Path(sys.argv[1])
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    where = Where(folder / f"rank-{rank}.where")
    _redirect(folder / f"rank-{rank}.log")
    try:
        plan, job = read_plan(folder / "plan.json"), read(folder / "job.json", Job)
        admit(plan)
        _run(plan, job, folder, rank, world, where)
    except BaseException as error:
        traceback.print_exc()
        root = error
        while root.__cause__ is not None:
            root = root.__cause__
        last = str(root).strip().splitlines() or [""]
        cause = root.cause if isinstance(root, UniapError) else f"{type(root).__name__}: {last[-1]}"
        story = {"where": where.text, "cause": cause, "fix": getattr(root, "fix", "")}
        (folder / f"rank-{rank}.failed").write_bytes(msgspec.json.encode(story))
        sys.stderr.flush()
        # Not sys.exit: collectives of other ranks may hold threads that never end.
        os._exit(1)
    return 0


def _redirect(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _run(plan: Plan, job: Job, folder: Path, rank: int, world: int, where: Where) -> None:
    if world != plan.cluster.devices:
        raise UniapError(f"the plan is for {plan.cluster.devices} ranks and {world} were started", "start as many")
    kind = device_kind(job)
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        if job.check_memory:
            check_device_memory(plan, rank)
    device = torch.device("cuda", torch.cuda.current_device()) if kind == "cuda" else None
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=30), device_id=device)
    with open(folder / PROGRESS, "a") as progress:

        def tell(step: int, loss: float, norm: float, seconds: float) -> None:
            print(f"step {step + 1}: loss {loss:.6f}, gradient norm {norm:.4f}, {seconds:.3f} s", flush=True)
            if rank == 0:
                row = {"step": step + 1, "loss": loss, "norm": norm, "seconds": seconds}
                progress.write(msgspec.json.encode(row).decode() + "\n")
                progress.flush()

        measured, parallel = train(plan, job, kind, where=where, tell=tell)
    everyone: list[Any] = [None] * world
    mine = ([measured.settled(list(column)) for column in zip(*measured.busy_s, strict=True)], measured.memory_bytes)
    dist.all_gather_object(everyone, mine)
    if rank == 0:
        write(folder / REPORT, report(plan, measured, everyone, kind, str(folder), parallel.notes))
    dist.barrier()
    dist.destroy_process_group()


def report(
    plan: Plan,
    measured: Measured,
    everyone: list[tuple[list[float], float]],
    kind: str,
    folder: str,
    notes: tuple[str, ...],
) -> RunReport:
    """The report of a run from what each rank measured: (busy seconds per micro-batch of each stage, peak bytes).

    Bytes are those of a device, on which stages of the same ranks lie together.
    """
    chunks = plan.candidate.pipeline.chunks
    stages = tuple(
        StageReport(
            stage=i,
            ranks=stage.ranks,
            predicted_time_s=stage.time_s,
            measured_time_s=_slowest(everyone, stage.ranks, chunks[:i].count(chunks[i])),
            predicted_memory_bytes=device_bytes(plan, stage.ranks[0]),
            measured_memory_bytes=max(everyone[rank][1] for rank in stage.ranks),
        )
        for i, stage in enumerate(plan.stages)
    )
    return RunReport(
        plan=plan.seal,
        executor="fsdp",
        device=torch.cuda.get_device_name() if kind == "cuda" else "cpu",
        world=plan.cluster.devices,
        first_step=measured.first_step,
        losses=tuple(measured.losses),
        gradient_norms=tuple(measured.norms),
        step_s=tuple(measured.step_s),
        predicted_time_s=plan.predicted.iteration_time_s,
        measured_time_s=measured.settled(measured.step_s),
        stages=stages,
        folder=folder,
        checkpoint=measured.checkpoint,
        notes=notes,
    )


def _slowest(everyone: list[tuple[list[float], float]], ranks: tuple[int, ...], place: int) -> float:
    """Busy seconds of the slowest rank in the stage that is number ``place`` of its own (0 where nothing ran)."""
    return max((everyone[rank][0][place] for rank in ranks if everyone[rank][0]), default=0.0)


if __name__ == "__main__":
    raise SystemExit(main())
