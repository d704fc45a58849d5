"""Finding plugins by name. The only module that knows stevedore and importlib.metadata.

Listing reads entry points and imports nothing of any plugin; loading imports the one module that is asked for.
stevedore drops provenance, misses duplicates that are not adjacent, and hands back a class for a falsy instance;
so names and distributions are read here, and stevedore loads the one entry point that was chosen.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, TypeVar

from . import fence
from .errors import PluginError, UnknownName

T = TypeVar("T")

GROUPS = {
    "solver": "uniap.solvers",
    "cost model": "uniap.cost_models",
    "executor": "uniap.executors",
    "model": "uniap.models",
}

DESCRIPTORS = {
    "solver": "uniap_core.solve.plugin:SolverPlugin",
    "cost model": "uniap_core.costs:CostModelPlugin",
    "executor": "uniap_core.execute:ExecutorPlugin",
    "model": "uniap_core.models:ModelPlugin",
}
"""What an entry point of each kind must name; resolved late, as the functions that descriptors name are."""


@dataclass(frozen=True)
class Listing:
    """One entry point: where it points, which distribution brought it, and what is wrong with it, if anything."""

    group: str
    name: str
    target: str
    distribution: str
    problem: str = ""


def listing(kind: str) -> tuple[Listing, ...]:
    """All plugins of a kind, by name, without importing any. Duplicates carry a ``problem``.

    Parameters
    ----------
    kind
        A key of :data:`GROUPS`.
    """
    group = GROUPS[kind]
    found: dict[str, list[metadata.EntryPoint]] = {}
    for entry in _entry_points(group):
        found.setdefault(entry.name, []).append(entry)
    rows = []
    for name in sorted(found):
        entries = found[name]
        targets = sorted({entry.value for entry in entries})
        owners = sorted({_owner(entry) for entry in entries})
        problem = f"{len(targets)} distributions claim this name: {', '.join(owners)}" if len(targets) > 1 else ""
        rows.append(Listing(group, name, targets[0], ", ".join(owners), problem))
    return tuple(rows)


def names(kind: str) -> tuple[str, ...]:
    """Names of all plugins of a kind that can be chosen (duplicates cannot)."""
    return tuple(row.name for row in listing(kind) if not row.problem)


@cache
def load(kind: str, name: str) -> Any:
    """Load one plugin's object by name.

    Raises
    ------
    UnknownName
        If there is none of that name; lists the valid ones.
    PluginError
        If two distributions claim the name, or the plugin's module does not import.
    """
    group = GROUPS[kind]
    row = next((row for row in listing(kind) if row.name == name), None)
    if row is None:
        import difflib

        valid = names(kind)
        close = difflib.get_close_matches(name, valid, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownName(f"there is no {kind} named {name!r}", f"{hint}known: {', '.join(valid) or 'none'}")
    if row.problem:
        raise PluginError(f"{kind} {name!r}: {row.problem}", "uninstall all but one of them")
    who = f"{kind} {name!r} ({row.target})"
    repair = f"repair or uninstall {row.distribution or 'it'}; the other plugins are not affected"
    with fence.guard(f"{who} does not load: it", repair):
        return fence.descriptor(who, _found(group, row), _named(DESCRIPTORS[kind]))


def working(kind: str) -> tuple[tuple[Any, ...], tuple[PluginError, ...]]:
    """The plugins of a kind that load, and what is wrong with the others: one broken plugin hides no other."""
    found, broken = [], []
    for name in names(kind):
        try:
            found.append(load(kind, name))
        except PluginError as error:
            broken.append(error)
    return tuple(found), tuple(broken)


def call(plugin: Any, function: str, *arguments: Any, returns: type[T], **named: Any) -> T:
    """Call a function that a descriptor names, inside the fence.

    Parameters
    ----------
    plugin
        The descriptor.
    function
        Which of its fields names the function.
    returns
        What must come back.

    Raises
    ------
    PluginError
        If the function does not import, raises anything but an error of uniap, or returns another type.
    """
    who = f"{kind_of(plugin)} {plugin.name!r}: {function}"
    target = resolve(getattr(plugin, function))
    with fence.guard(who):
        value = target(*arguments, **named)
        return fence.typed(who, value, returns)


def kind_of(plugin: Any) -> str:
    """The kind of plugin that a descriptor is of."""
    return next(kind for kind, target in DESCRIPTORS.items() if isinstance(plugin, _named(target)))


def resolve(target: str) -> Callable[..., Any]:
    """Import ``module:attribute`` as named by a descriptor.

    Raises
    ------
    PluginError
        If the module does not import or lacks the attribute.
    """
    module = target.partition(":")[0]
    try:
        with fence.guard(f"importing {module}"):
            found: Callable[..., Any] = _named(target)
            return found
    except PluginError as error:
        if isinstance(error.__cause__, ImportError):
            raise PluginError(
                f"{target} does not import: {error.__cause__}", "install what the plugin needs"
            ) from error
        if isinstance(error.__cause__, AttributeError):
            raise PluginError(f"{target} is not there: {error.__cause__}", "correct the descriptor") from error
        raise


def missing(modules: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``modules`` that are not installed; finds without importing."""
    return tuple(m for m in modules if importlib.util.find_spec(m.partition(".")[0]) is None)


def version() -> str:
    """The version of uniap that is installed; pyproject.toml is where it is said."""
    try:
        return metadata.version("uniap")
    except metadata.PackageNotFoundError:
        return "unknown"


def _found(group: str, row: Listing) -> Any:
    from stevedore import DriverManager
    from stevedore.exception import NoMatches

    try:
        return DriverManager(group, row.name, invoke_on_load=False).driver
    except NoMatches:
        # stevedore's on-disk cache can be older than the installation; the entry point itself is not.
        return metadata.EntryPoint(row.name, row.target, group).load()


def _named(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _entry_points(group: str) -> tuple[metadata.EntryPoint, ...]:
    """Entry points of a group; those of built-in plugins can be switched off by UNIAP_DISABLE=name,name."""
    disabled = set(filter(None, os.environ.get("UNIAP_DISABLE", "").split(",")))
    return tuple(e for e in metadata.entry_points(group=group) if e.name not in disabled)


def _owner(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"
