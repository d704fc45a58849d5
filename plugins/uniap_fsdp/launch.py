"""From a plan to running ranks: the gate, the dry run, the machine, torchrun, and the story of what happened."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from uniap_core.api import (
    Emit,
    Job,
    LaunchFailed,
    Note,
    Plan,
    Progress,
    RunReport,
    admit,
    read,
    warden,
    write,
    write_plan,
)

from . import where
from .dry import layout
from .machine import check_machine, device_kind

POLL_S = 0.2

LEAVE_S = 1.0
"""How long torchrun may take to end its ranks after an interrupt."""

AGENT = (
    "import os, runpy, sys; os.environ['UNIAP_AGENT'] = str(os.getpid()); sys.argv[0] = 'torchrun'; "
    "runpy.run_module('torch.distributed.run', run_name='__main__')"
)
"""torchrun, which tells its ranks whom to follow when it is killed."""


class Story(msgspec.Struct, frozen=True):
    """What a rank said of its failure."""

    where: str
    cause: str
    fix: str = ""


class Row(msgspec.Struct, frozen=True):
    """A line of progress of rank 0."""

    step: int
    loss: float
    norm: float
    seconds: float


def launch(plan: Plan, job: Job, emit: Emit) -> RunReport:
    """Train a model under a plan on this machine.

    Parameters
    ----------
    plan
        A sealed plan.
    job
        What to train for how long.
    emit
        Told of every iteration.

    Raises
    ------
    Unverified
        If the plan may not run: edited, stale, or its verdict failed.
    Inexpressible
        If this executor cannot run it.
    LaunchFailed
        If the machine is too small, or a rank died: which, doing what, and where its log is.
    """
    start = time.monotonic()
    admit(plan)
    kind = device_kind(job)
    notes = layout(plan).notes
    folder = _folder(job)
    try:
        return _launch(plan, job, kind, folder, notes, emit, start)
    except KeyboardInterrupt:
        if not job.folder:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        warden.release(folder=folder)


def _launch(
    plan: Plan, job: Job, kind: str, folder: Path, notes: tuple[str, ...], emit: Emit, start: float
) -> RunReport:
    notes += tuple(check_machine(plan, kind, str(folder), memory=job.check_memory))
    for text in notes:
        emit(Note(time.monotonic() - start, text))
    write_plan(folder / "plan.json", plan)
    write(folder / "job.json", job)
    _torchrun(plan, job, kind, folder, emit, start)
    report = read(folder / "report.json", RunReport)
    report = msgspec.structs.replace(report, notes=tuple(dict.fromkeys(notes + report.notes)))
    write(folder / "report.json", report)
    return report


def _folder(job: Job) -> Path:
    if not job.folder:
        return Path(warden.folder_of("uniap-run-"))
    folder = Path(job.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in (*folder.glob("rank-*"), *folder.glob("progress.jsonl"), *folder.glob("report.json")):
            old.unlink()
    except OSError as error:
        raise LaunchFailed(f"{folder} cannot be used: {error.strerror}", "name a folder that can be written") from None
    return folder.absolute()


def _torchrun(plan: Plan, job: Job, kind: str, folder: Path, emit: Emit, start: float) -> None:
    own = folder / "torchrun"  # its records of errors: it leaves them where it is killed
    command = [sys.executable, "-c", AGENT, "--standalone", "--max-restarts=0", f"--log-dir={own}"]
    command += [f"--nproc-per-node={plan.cluster.devices}", "-m", "uniap_fsdp.worker", str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}
    if kind == "cpu":
        environment.setdefault("OMP_NUM_THREADS", "1")
    with open(folder / "launcher.log", "w+") as log:
        # A session of its own, so that an interrupt reaches the ranks through their launcher alone, once.
        agent = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        warden.watch(group=agent.pid)
        warden.watch(folder=own)
        try:
            read_lines = 0
            while agent.poll() is None:
                time.sleep(POLL_S)
                read_lines = _tell(folder, job, read_lines, emit, start)
            _tell(folder, job, read_lines, emit, start)
        finally:
            _end(agent)
            shutil.rmtree(own, ignore_errors=True)
            warden.release(group=agent.pid)
            warden.release(folder=own)
    if agent.returncode:
        raise failure(folder, plan.cluster.devices)


def _end(agent: subprocess.Popen[bytes]) -> None:
    """Let torchrun end its ranks, and do it for it if that takes long."""
    if agent.poll() is not None:
        return
    agent.terminate()
    try:
        agent.wait(LEAVE_S)
    except subprocess.TimeoutExpired:
        os.killpg(agent.pid, signal.SIGKILL)  # the ranks follow it (see worker.py)
        agent.wait()


def _tell(folder: Path, job: Job, seen: int, emit: Emit, start: float) -> int:
    try:
        lines = (folder / "progress.jsonl").read_text().splitlines(keepends=True)
    except OSError:
        return seen
    whole = [line for line in lines if line.endswith("\n")]
    for line in whole[seen:]:
        row = msgspec.json.decode(line, type=Row)
        label = f"loss {row.loss:.6f}, gradient norm {row.norm:.4f}, {row.seconds:.3f} s"
        emit(Progress(time.monotonic() - start, row.step, job.steps, label))
    return len(whole)


def failure(folder: Path, world: int) -> LaunchFailed:
    """What ended a run: the first rank that a signal killed, or else the first that said why it failed."""
    log = (folder / "launcher.log").read_text(errors="replace")
    killed = _killed(log)
    if killed is not None:
        rank, number = killed
        doing = where.read(folder / f"rank-{rank}.where") or "starting"
        return LaunchFailed(
            f"rank {rank} was killed by signal {number} during {doing}",
            f"look at {folder}/rank-{rank}.log; signal 9 is usually the system running out of memory",
        )
    stories = sorted(folder.glob("rank-*.failed"), key=lambda path: path.stat().st_mtime_ns)
    if not stories:
        tail = [line for line in log.splitlines() if line.strip()][-1:]
        return LaunchFailed(f"torchrun failed: {''.join(tail)}", f"look at {folder}/launcher.log")
    rank = int(stories[0].stem.partition("-")[2])
    story = msgspec.json.decode(stories[0].read_bytes(), type=Story)
    fix = story.fix or f"look at {folder}/rank-{rank}.log"
    return LaunchFailed(f"rank {rank} failed during {story.where}: {story.cause}", fix)


def _killed(log: str) -> tuple[int, int] | None:
    """Rank and signal of a rank that died by a signal which torchrun did not send itself."""
    for rank, code in re.findall(r"rank\s*:\s*(\d+) \(local_rank: \d+\)\s*exitcode\s*:\s*(-?\d+)", log):
        if int(code) < 0 and int(code) != -15:
            return int(rank), -int(code)
    return None
