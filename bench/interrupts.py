"""What random interrupts of random commands leave behind: ``python -m bench.interrupts --count 100 --seed 0``.

Each trial starts one command as a process of its own, sends it SIGINT, SIGTERM, SIGHUP or SIGKILL after a random
time, and counts: seconds until it ended, tracebacks, processes (found by a mark in their environment), and entries of
its temporary folder and of the output folder that stay. Linux only: processes are looked up in /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

PROMPT_S = 2.0
"""Commands are to end so soon after a signal."""

GIVE_UP_S = 60.0
"""A command that runs for longer after a signal hangs."""

SETTLE_S = 10.0
"""What is left behind is what is there after so long."""

UNIAP = [sys.executable, "-c", "from uniap_core.entry import main; main()"]

PLAN = ["plan", "t5-large", "-c", "2x8xA100-80G", "-b", "64", "-o", "{out}/plan.json"]
COMMANDS: dict[str, list[str]] = {
    "plan": PLAN,
    "plan --workers 2": [*PLAN, "--workers", "2"],
    "plan --solver highs": ["plan", "bert-huge", "-c", "8xV100-32G", "-b", "32", "--solver", "highs"],
    "plan --schedule auto": [*PLAN, "--schedule", "auto"],
    "plan infeasible": ["plan", "llama2-70b", "-c", "4xRTX3090", "-b", "32"],
    "plan pinned": ["plan", "llama-7b", "-c", "8xA100-40G", "-b", "32", "--pin", "tp=2", "--pin", "pp=4"],
    "solve dp": ["solve", "{problem}", "-o", "{out}/result.json"],
    "solve cbc": ["solve", "{hard}", "--solver", "cbc", "-o", "{out}/result.json"],
    "solve scip": ["solve", "{problem}", "--solver", "scip"],
    "compare": ["compare", "{problem}", "--solvers", "dp,highs,cbc", "-o", "{out}/comparison.json"],
    "sweep": ["sweep", "bert-huge", "-c", "8xV100-32G", "-c", "8xA100-40G", "-b", "32", "--csv", "{out}/sweep.csv"],
    "verify": ["verify", "{plan}"],
    "verify --properties": ["verify", "--properties", "1000000"],
    "report": ["report", "{plan}", "-o", "{out}/report.html"],
    "explain": ["explain", "{plan}", "--why-not", "tp=4"],
    "candidate": ["candidate", "t5-large", "-c", "2x8xA100-80G", "-b", "64", "--pp", "2", "--micro-batches", "8"],
    "models": ["models"],
    "plugins --probe": ["plugins", "--probe"],
    "run": ["run", "{small}", "--steps", "100000", "--device", "cpu"],
}


@dataclass(frozen=True)
class Trial:
    """What came of one interrupt."""

    command: str
    signal: str
    after_s: float
    code: int | None
    seconds: float
    traceback: str
    processes: tuple[str, ...]
    files: tuple[str, ...]
    delivered: bool

    @property
    def clean(self) -> bool:
        """Nothing stayed, nothing was said in Python's words, and it ended."""
        return not (self.traceback or self.processes or self.files) and self.code is not None


def prepare(folder: Path) -> dict[str, str]:
    """The files that commands read."""
    files = {name: str(folder / f"{name}.json") for name in ("problem", "hard", "plan", "small")}
    candidate = ["candidate", "bert-huge", "-c", "8xV100-32G", "-b", "32", "--pp", "4", "--micro-batches", "8"]
    hard = ["candidate", "llama-7b", "-c", "8xA100-40G", "-b", "32", "--pp", "4", "--micro-batches", "8"]
    small = ["plan", "gpt:layers=2,hidden=32,heads=2,vocab=64,seq=16", "-c", "2xV100-32G", "-b", "4"]
    for arguments in (
        [*candidate, "-o", files["problem"]],
        [*hard, "-o", files["hard"]],
        ["plan", "bert-huge", "-c", "8xV100-32G", "-b", "32", "-o", files["plan"]],
        [*small, "--precision", "fp32", "--executor", "fsdp", "-o", files["small"]],
    ):
        subprocess.run([*UNIAP, *arguments], check=True, stdout=subprocess.DEVNULL)
    return files


def trial(command: str, number: signal.Signals, after_s: float, files: dict[str, str]) -> Trial:
    """Start a command, interrupt it, and look at what is left.

    Parameters
    ----------
    command
        A key of :data:`COMMANDS`.
    after_s
        Seconds from its start to the signal.
    files
        From :func:`prepare`.
    """
    with tempfile.TemporaryDirectory(prefix="interrupts-") as place:
        out, temporary = Path(place, "out"), Path(place, "tmp")
        out.mkdir()
        temporary.mkdir()
        arguments = [part.format(out=out, **files) for part in COMMANDS[command]]
        mark = f"UNIAP_TRIAL={uuid.uuid4().hex}"
        environment = dict(os.environ, TMPDIR=str(temporary), **dict([mark.split("=")]))
        with open(Path(place, "stdout"), "wb") as stdout, open(Path(place, "stderr"), "w+b") as stderr:
            process = subprocess.Popen(
                [*UNIAP, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                cwd=out,
                start_new_session=True,
            )
            try:
                process.wait(after_s)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
            sent = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GIVE_UP_S)
            seconds, code = time.monotonic() - sent, process.poll()
            left, strays = _settled(mark, temporary, out)
            for pid in left:
                _kill(pid)
            process.wait()
            stderr.seek(0)
            said = stderr.read().decode(errors="replace")
        at = said.find("Traceback (most recent call last)")
        shared = tuple(left.values())
        delivered = any(out.iterdir()) or Path(place, "stdout").stat().st_size > 0
        traceback = "" if at < 0 else said[at : at + 2000]
        return Trial(command, number.name, after_s, code, seconds, traceback, shared, strays, delivered)


def _settled(mark: str, temporary: Path, out: Path) -> tuple[dict[int, str], tuple[str, ...]]:
    """Processes and files that are still there when no more seem to go."""
    ends = time.monotonic() + SETTLE_S
    while True:
        left = marked(mark)
        # Torch's compiler keeps an empty folder per user; hidden files beside an output are half-written ones.
        strays = [p.name for p in temporary.iterdir() if not p.name.startswith("torchinductor_")]
        strays += [p.name for p in out.iterdir() if p.name.startswith(".")]
        if not (left or strays) or time.monotonic() > ends:
            return left, tuple(strays)
        time.sleep(0.05)


def marked(mark: str) -> dict[int, str]:
    """Processes with a mark in their environment, and their command lines."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark.encode() in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                line = Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(name)] = line[:300]
        except OSError:
            continue
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def draw(count: int, seed: int, most_s: float) -> list[tuple[str, signal.Signals, float]]:
    """So many trials: every command about equally often, signals and moments at random, once Python itself is up."""
    chance = random.Random(seed)
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
    names = [name for _ in range(count // len(COMMANDS) + 1) for name in chance.sample(sorted(COMMANDS), len(COMMANDS))]
    return [(name, chance.choice(kinds), 0.15 + most_s * chance.random() ** 2) for name in names[:count]]


def main() -> int:
    """Interrupt, count, print; exit 1 if anything stayed, hung, or spoke in tracebacks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=float, default=15.0, help="latest moment of an interrupt, seconds")
    parser.add_argument("--only", help="only commands that contain this")
    options = parser.parse_args()
    trials = []
    with tempfile.TemporaryDirectory(prefix="interrupts-") as folder:
        files = prepare(Path(folder))
        for command, number, after_s in draw(options.count, options.seed, options.most):
            if options.only and options.only not in command:
                continue
            one = trial(command, number, after_s, files)
            trials.append(one)
            words = "clean" if one.clean else f"NOT CLEAN {one.processes} {one.files}\n{one.traceback}"
            print(
                f"{command:<22} {one.signal:<8} after {after_s:5.2f} s: exit {one.code} in {one.seconds:.2f} s "
                f"{'delivered ' if one.delivered else ''}{words}",
                flush=True,
            )
    counts = Counter(
        {
            "interrupts": len(trials),
            "clean": sum(one.clean for one in trials),
            "hung": sum(one.code is None for one in trials),
            "tracebacks": sum(bool(one.traceback) for one in trials),
            "left processes": sum(bool(one.processes) for one in trials),
            "left files": sum(bool(one.files) for one in trials),
            f"later than {PROMPT_S:g} s": sum(one.seconds > PROMPT_S for one in trials),
        }
    )
    print(", ".join(f"{name} {count}" for name, count in counts.items()))
    return 0 if counts["clean"] == counts["interrupts"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
