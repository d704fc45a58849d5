"""``uniap models``, ``uniap clusters``, ``uniap plugins``: what there is to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import registry
from ..errors import PluginError, UnknownName
from ..events import Event, Note
from . import Json, app, command, guarded, print_json
from .progress import progress

if TYPE_CHECKING:
    from ..models import ModelRow

PROBE_S = 30.0
"""How long a plugin may take to load and answer."""

LISTING_S = 120.0
"""How long all plugins of models may take to build what they list."""


@command
def models(
    words: Annotated[
        list[str] | None,
        typer.Argument(help="Only those with all these words in name, family or Hugging Face id.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """List the models of the zoo and of installed model plugins by family, all or those that match."""
    from dataclasses import asdict

    from msgspec import json as text

    from ..models import ModelRow, suggested
    from ..solve import process

    with progress("counting", quiet=json) as emit:
        try:
            said = process.probe(f"{__name__}:counted", limit_s=LISTING_S, who="the list of models", emit=emit)
        except PluginError as error:
            fix = error.fix or "uniap plugins --probe says which plugin is at fault; uninstall it"
            raise PluginError(error.cause, fix) from None
        found, notes = text.decode(said, type=tuple[list[ModelRow], list[str]])
        for note in notes:
            emit(Note(0.0, note))
    chosen = [row for row in found if _matches(row, words or ())]
    if not chosen:
        close = suggested("-".join(words or ()))
        hint = f"did you mean {' or '.join(close)}?" if close else "uniap models lists all"
        raise UnknownName(f"no model matches {' '.join(words or ())!r}", hint)
    if json:
        return print_json([asdict(row) for row in chosen])
    lines: list[tuple[str, ...]] = []
    for group in dict.fromkeys(row.group for row in chosen):
        lines.append((group, "", "", "", ""))
        lines += [_line(row) for row in chosen if row.group == group]
    _table(("name", "parameters", "active", "sequence", "what it is"), lines)
    print("also by Hugging Face id (Qwen/Qwen3-8B); or a family with parameters (gpt:layers=24,hidden=2048,heads=16),")
    print("graph.json, hf:config.json, or package.module:factory")
    return None


def counted() -> str:
    """All models and what is to be said of them, as JSON: for a process that may hang in a plugin."""
    from msgspec import json as text

    from ..models import rows

    notes: list[Event] = []
    found = rows(notes.append)
    return text.encode((found, [note.text for note in notes if isinstance(note, Note)])).decode()


def _line(row: ModelRow) -> tuple[str, ...]:
    """A model in the table, set in under its family, by its Hugging Face id where it has one."""
    active = _count(row.active) if row.active < row.parameters else ""
    what = row.aliases[0] if row.aliases else row.summary
    return (f"  {row.name}", _count(row.parameters), active, str(row.sequence), what)


def _matches(row: ModelRow, words: Sequence[str]) -> bool:
    """Whether every word is somewhere in what a model is called and listed under."""
    text = " ".join((row.name, row.group, row.summary, *row.aliases)).lower()
    return all(word.lower() in text for word in words)


@command
def clusters(json: Json = False) -> None:
    """List device kinds and example clusters, and how to describe others; any NODESxDEVICESxKIND works."""
    from ..cluster import PRESETS
    from ..devices import kinds
    from ..kind_tables import EXAMPLE

    if json:
        return print_json({"presets": PRESETS, "kinds": kinds()})
    rows = []
    for name, kind in kinds().items():
        device = kind.device
        best = max(device.peak_flops.get(p, 0.0) for p in ("bf16", "fp16", "fp32"))
        rows.append(
            (
                name,
                f"{device.memory_bytes / 2**30:.0f} GiB",
                f"{best * device.matmul_ceiling / 1e12:.0f}",
                f"{kind.link.kind} {kind.link.bandwidth_Bps / 1e9:.0f}",
                f"{kind.inter.kind} {kind.inter.bandwidth_Bps / 1e9:.4g}",
            )
        )
    _table(("kind", "memory", "matmul TFLOP/s", "in a node, GB/s", "between nodes, GB/s"), rows)
    print("\npresets: " + ", ".join(PRESETS))
    print(
        "or any NODESxDEVICESxKIND (4x8xH100-80G), or a TOML file (docs/formats.md) of nodes of these kinds or yours:"
    )
    print(f'\nname = "two sparks"\n\n{EXAMPLE}')
    print('a node of several kinds: devices = [{ kind = "A100-80G", count = 1 }, { kind = "RTX4090", count = 3 }]')
    return None


@command
def plugins(
    probe: Annotated[bool, typer.Option("--probe", help="Also load each one and ask for version and licence.")] = False,
    json: Json = False,
) -> None:
    """List solvers, cost models, executors and model sources, without importing them."""
    rows = [_plugin_row(kind, row, probe) for kind in registry.GROUPS for row in registry.listing(kind)]
    if json:
        return print_json(rows)
    _table(("kind", "name", "from", "status"), [(r["kind"], r["name"], r["distribution"], r["status"]) for r in rows])
    return None


def _plugin_row(kind: str, row: registry.Listing, probe: bool) -> dict[str, str]:
    status = row.problem or "listed"
    if probe and not row.problem:
        status = _probe(kind, row.name)
    return {
        "kind": kind,
        "name": row.name,
        "target": row.target,
        "distribution": row.distribution,
        "status": status,
    }


def _probe(kind: str, name: str) -> str:
    """Load a plugin and ask it, in a process that may hang or die of it; what it does wrong stays its own problem."""
    from ..solve import process

    try:
        return process.probe(f"{__name__}:asked", kind, name, limit_s=PROBE_S, who=f"{kind} {name!r}")
    except PluginError as error:
        return _broken(error)


def asked(kind: str, name: str) -> str:
    """What a plugin says of itself, or what is wrong with it."""
    from ..solve.driver import probe

    try:
        plugin: Any = registry.load(kind, name)
        absent = registry.missing(getattr(plugin, "modules", ()))
        if absent:
            return f"not installed: {plugin.install or 'install ' + ', '.join(absent)}"
        return f"ok {probe(plugin)}" if kind == "solver" else "ok"
    except Exception as error:
        return _broken(error)


def _broken(error: Exception) -> str:
    return f"broken: {(str(error) or type(error).__name__).splitlines()[0]}"


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.0f} M"


new = typer.Typer(help="Write a working plugin package.", no_args_is_help=True)
app.add_typer(new, name="new")


@new.command("solver")
@guarded
def new_solver(
    name: Annotated[str, typer.Argument(help="Name that users will type.", show_default=False)],
    folder: Annotated[str, typer.Option("--output", "-o", help="Folder to write the package to.")] = ".",
    json: Json = False,
) -> None:
    """Write a solver plugin: an installable package that passes the conformance kit as it is."""
    from ..scaffold import new_solver as write

    files = [str(path) for path in write(name, folder)]
    if json:
        return print_json({"files": files})
    print("\n".join(files))
    print("install it with pip install -e, run its tests with pytest, then fill in solve()")
    return None
