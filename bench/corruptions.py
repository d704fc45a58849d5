"""Damaged files and hostile options: ``python -m bench.corruptions --count 1000 --seed 0``.

Each trial damages one file (a graph, plan, problem, result, profile, cluster or table) or one option, gives it to a
command that reads it, in this process, and looks at how that ends: with an answer or a named error and its exit code,
or with a defect, that is, with what would be a traceback. Counts them by kind of file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HANG_S = 60.0
"""A command that takes longer hangs, on a machine with nothing else to do."""

MODEL = "gpt:layers=2,hidden=32,heads=2,vocab=64,seq=16"
CLUSTER = 'name = "two"\ninter_GBps = 25.0\n[[nodes]]\nkind = "V100-32G"\ndevices = 2\ncount = 1\nmemory_gib = 31.0\n'
TABLE = (
    "row_id,gpu,num_gpus,model,layers,hidden,heads,ffn,vocab,seq,global_batch,tp,pp\n"
    "1,A100-80G,8,m,4,256,4,1024,999,128,16,2,2\n"
)

NUMBERS = (0, -1, 1, 3, 0.5, -0.0, 10**9, 10**12, 10**18, 10**19, 2**63, 2**64, 10**400, 1e308, -1e308, 1e-308)
WORDS = ("", "x", "\0", "\n", "\x1b[31m", "é", "..", "/", "a" * 100_000, "none", "bf17", "null", "=1+1", "$(id)", '"""')
OPTIONS = ("inf", "-inf", "nan", "-1", "0", "1", "1e308", "1000000", "10" * 200, "1e-320", "0x10", "", "x", "9" * 18)


@dataclass(frozen=True)
class Trial:
    """How one damaged input ended."""

    kind: str
    arguments: tuple[str, ...]
    code: int
    words: str
    hung: bool

    @property
    def defect(self) -> bool:
        """Whether it would have been a traceback, or hung."""
        return "error[defect]" in self.words or "Traceback" in self.words or self.hung


def run(kind: str, arguments: list[str], patience_s: float = HANG_S) -> Trial:
    """One command in this process: exit code and what it said on stderr."""
    from typer.testing import CliRunner

    from uniap_core.cli import register

    def ring(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, patience_s)
    began = time.monotonic()
    try:
        done = CliRunner().invoke(register(), arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    words = done.stderr
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        words += f"Traceback: {done.exception!r}"
    return Trial(kind, tuple(arguments), done.exit_code, words, time.monotonic() - began > patience_s)


# --- damage -----------------------------------------------------------------------------------------------------


def damaged(text: str, chance: random.Random) -> str:
    """A JSON document with one thing wrong: a leaf, a field, a bracket, a byte."""
    kind = chance.randrange(8)
    if kind == 0:
        return text[: chance.randrange(len(text))]
    if kind == 1:
        at = chance.randrange(len(text))
        return text[:at] + chance.choice('{}[],:"x0-\\\n') + text[at + 1 :]
    if kind == 2:
        depth = chance.choice((10, 1000, 100_000))
        return "[" * depth + text + "]" * depth
    document = json.loads(text)
    places = list(_places(document))
    holder, key = chance.choice(places)
    if kind == 3:
        del holder[key]
    elif kind == 4 and isinstance(holder, dict):
        holder[chance.choice(WORDS)] = holder[key]
    elif kind == 5:
        holder[key] = chance.choice((None, True, [], {}, [[]], [holder[key]] * 3))
    else:
        numbers = isinstance(holder[key], int | float)
        holder[key] = chance.choice(NUMBERS if numbers or chance.random() < 0.2 else WORDS)
    return json.dumps(document)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    for key, inner in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def damaged_lines(text: str, chance: random.Random) -> str:
    """TOML or CSV with one value, one line or one byte wrong."""
    kind = chance.randrange(5)
    at = chance.randrange(len(text))
    if kind == 0:
        return text[:at] + chance.choice("\0\"'[]=,.\n\xff") + text[at + 1 :]
    if kind == 1:
        lines = text.splitlines(keepends=True)
        return "".join(chance.sample(lines, chance.randrange(1, len(lines) + 1)))
    digits = [i for i, letter in enumerate(text) if letter.isdigit()]
    start = chance.choice(digits)
    value = chance.choice(
        ("-1", "0", "1e308", "nan", "inf", "1000000000", "9" * 400, "1e-320", '"x"', "a." * 3000 + "a")
    )
    return text[:start] + value + text[start + 1 :]


# --- trials -----------------------------------------------------------------------------------------------------


def prepare(folder: Path) -> dict[str, str]:
    """Whole files of every kind, by kind: their text."""
    (folder / "cluster.toml").write_text(CLUSTER)
    files = {kind: folder / f"{kind}.json" for kind in ("plan", "problem", "result", "graph", "cluster")}
    plan = ["plan", MODEL, "-c", "2xV100-32G", "-b", "4"]
    candidate = ["candidate", MODEL, "-c", "2xV100-32G", "-b", "4", "--pp", "2", "--micro-batches", "2"]
    for arguments in (
        [*plan, "-o", str(files["plan"])],
        [*candidate, "-o", str(files["problem"])],
        ["solve", str(files["problem"]), "-o", str(files["result"])],
    ):
        assert run("whole", arguments, patience_s=1e4).code == 0, arguments
    made = json.loads(files["plan"].read_text())
    texts = {kind: path.read_text() for kind, path in files.items() if kind in ("plan", "problem", "result")}
    profile = {
        "schema": "uniap.profile/1", "device": "d", "precision": "fp16", "graph": "", "overlap": 1.1,
        "layers": [{"layer": made["model"]["layers"][0]["name"], "tp": 1, "samples": 1, "sequence": 16,
                    "forward_s": 1e-3, "backward_s": 2e-3, "saved_bytes": 1e5, "peak_bytes": 2e5}],
        "collectives": [{"operation": "all_reduce", "ranks": 2, "alpha_s": 1e-5, "beta_s_per_byte": 1e-10}],
        "matmul_flops": {"fp16": 1e13}, "launch_s": 1e-5,
    }  # fmt: skip
    return texts | {
        "graph": json.dumps(made["model"]),
        "cluster": json.dumps(made["cluster"]),
        "profile": json.dumps(profile),
        "toml": CLUSTER,
        "table": TABLE,
    }


READERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "plan": (
        ("verify", "{file}"),
        ("explain", "{file}"),
        ("timeline", "{file}", "--json"),
        ("export", "{file}", "--to", "megatron", "-o", "{out}"),
        ("diff", "{file}", "{whole}"),
        ("report", "{file}", "--no-what-if", "-o", "{out}.html"),
    ),
    "problem": (("solve", "{file}", "--time-limit", "5"), ("verify", "{file}", "--result", "{result}")),
    "result": (("verify", "{problem}", "--result", "{file}"),),
    "graph": (("plan", "{file}", "-c", "2xV100-32G", "-b", "4", "--time-limit", "5"),),
    "cluster": (("plan", MODEL, "-c", "{file}", "-b", "4", "--time-limit", "5"),),
    "profile": (
        ("plan", MODEL, "-c", "2xV100-32G", "-b", "4", "--profile", "{file}", "--cost-model", "profiled",
         "--time-limit", "5"),
    ),
    "toml": (("plan", MODEL, "-c", "{file}", "-b", "4", "--time-limit", "5"),),
    "table": (("estimate", "{file}", "-o", "{out}.csv"), ("calibrate", "{file}", "-o", "{out}.toml")),
}  # fmt: skip

OPTION_TRIALS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("plan", MODEL, "-c", "2xV100-32G", "-b", "4"),
        ("--time-limit", "--gap", "--seq", "--top", "--max-strategies", "--pin", "--precision", "--workers", "--batch",
         "--schedule", "--cluster", "--solver", "--cost-model", "--executor", "--profile", "--from", "--output"),
    ),
    (
        ("solve", "{problem}"),
        ("--time-limit", "--gap", "--threads", "--seed", "--solver", "--form", "--log", "--output"),
    ),
    (
        ("candidate", MODEL, "-c", "2xV100-32G", "-b", "4", "--pp", "2", "--micro-batches", "2"),
        ("--pp", "--micro-batches", "--seq", "--pin"),
    ),
    (("verify", "{plan}"), ("--tolerance", "--profile", "--cross-check", "--result", "--time-limit")),
    (("verify", "--properties", "1"), ("--seed", "--cost-model", "--solver", "--time-limit")),
    (("explain", "{plan}"), ("--layer", "--why-not")),
    (("run", "{plan}"), ("--device", "--learning-rate", "--executor", "--data", "--resume")),
    (("sweep", MODEL, "-c", "2xV100-32G"), ("--batch", "--csv", "--plot")),
)  # fmt: skip


def trials(count: int, seed: int, folder: Path, patience_s: float = HANG_S) -> Iterator[Trial]:
    """So many trials, over all kinds of files and all options in turn."""
    texts = prepare(folder)
    chance = random.Random(seed)
    whole = {kind: str(folder / f"{kind}.json") for kind in ("plan", "problem", "result")}
    kinds = [*READERS, "option"]
    for number in range(count):
        kind = kinds[number % len(kinds)]
        if kind == "option":
            yield run(kind, _hostile(chance, whole), patience_s)
            continue
        damage: Callable[[str, random.Random], str] = damaged_lines if kind in ("toml", "table") else damaged
        ending = {"toml": "toml", "table": "csv"}.get(kind, "json")
        file = folder / f"damaged.{ending}"
        file.write_bytes(damage(texts[kind], chance).encode("utf-8", "surrogateescape"))
        arguments = chance.choice(READERS[kind])
        places = {"file": file, "out": folder / "out", "whole": whole["plan"], **whole}
        given = [part.format(**places) if part != MODEL else part for part in arguments]
        yield run(kind, given, patience_s)


def _hostile(chance: random.Random, whole: dict[str, str]) -> list[str]:
    arguments, options = chance.choice(OPTION_TRIALS)
    value = chance.choice((*OPTIONS, *WORDS))
    kept = [part if part == MODEL else part.format(**whole) for part in arguments]
    option = chance.choice(options)
    # Not a working run, and no file made wherever a word may point.
    if kept[0] == "run" and option == "--device" and value in ("", "cpu"):
        value = "x"
    if option in ("--output", "--csv", "--plot", "--log") and value not in ("", "\0", "..", "/"):
        value = "/nowhere/" + value
    return [*kept, f"{option}={value}"]


def main() -> int:
    """Damage, run, count, print; exit 1 if anything was a defect."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=HANG_S, help="seconds after which a command hangs")
    options = parser.parse_args()
    tried: Counter[str] = Counter()
    defects: Counter[str] = Counter()
    codes: Counter[int] = Counter()
    with tempfile.TemporaryDirectory(prefix="corruptions-") as folder, contextlib.redirect_stderr(io.StringIO()):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        for number, trial in enumerate(trials(options.count, options.seed, Path(folder), options.patience)):
            tried[trial.kind] += 1
            codes[trial.code] += 1
            if trial.defect:
                defects[trial.kind] += 1
                arguments = " ".join(trial.arguments)[:200]
                ended = "hung" if trial.hung else f"exit {trial.code}"
                print(f"{number} {trial.kind}: {arguments}: {ended} {trial.words[:400]}")
                print(flush=True)
    for kind, count in sorted(tried.items()):
        print(f"{kind:<10} {count:>6} tried, {defects[kind]} defects")
    print(
        f"{sum(tried.values())} corruptions, {sum(defects.values())} defects; exit codes {dict(sorted(codes.items()))}"
    )
    return 1 if defects else 0


if __name__ == "__main__":
    raise SystemExit(main())
