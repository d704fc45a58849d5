"""The contract of executors, and the gate: only a plan with a passing, current verdict gets through."""

from __future__ import annotations

from dataclasses import dataclass

from .strategy import RECOMPUTES, SHARDINGS, Recompute, Sharding


@dataclass(frozen=True, kw_only=True)
class Capability:
    """What an executor can launch; the search narrows its space to it.

    Attributes
    ----------
    uniform
        One strategy for all layers of the model.
    even_stages
        All stages must hold equally many repeated blocks.
    families
        Model families it can build, or ``None`` for any traced model.
    """

    uniform: bool = False
    even_stages: bool = False
    sequence_parallel: bool | None = None
    shardings: tuple[Sharding, ...] = SHARDINGS
    recomputes: tuple[Recompute, ...] = RECOMPUTES
    schedules: tuple[str, ...] = ("gpipe", "1f1b")
    families: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ExecutorPlugin:
    """Descriptor of an executor: plain data, functions as ``module:attribute`` strings, resolved late.

    ``layout(plan) -> RankLayout`` is a dry run on CPU; ``launch(plan, job, emit) -> RunReport`` trains;
    ``export(plan, folder) -> list of files written``. An empty string means that it cannot.
    """

    name: str
    summary: str
    capability: Capability
    layout: str = ""
    launch: str = ""
    export: str = ""
    modules: tuple[str, ...] = ()
    install: str = ""
