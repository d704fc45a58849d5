"""Skipping what is not installed, unless it was promised: then its absence fails."""

from __future__ import annotations

import importlib
import os
from typing import Any, Protocol

import pytest

from uniap_core import registry


class Plugin(Protocol):
    """What all descriptors have."""

    @property
    def name(self) -> str:
        """The name users type."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Import names it needs."""

    @property
    def install(self) -> str:
        """The command that installs them."""


def required(name: str) -> bool:
    """Whether ``$UNIAP_REQUIRE`` (names separated by commas, or ``all``) promises that a plugin is usable here."""
    promised = os.environ.get("UNIAP_REQUIRE", "").split(",")
    return name in promised or "all" in promised


def plugin(kind: str, chosen: Any) -> Any:
    """The descriptor of a plugin under test; skips the test, or fails it, if its libraries are not installed.

    Parameters
    ----------
    kind
        A key of :data:`uniap_core.registry.GROUPS`.
    chosen
        A name, or a descriptor.
    """
    found = registry.load(kind, chosen) if isinstance(chosen, str) else chosen
    absent = registry.missing(found.modules)
    if absent:
        absence(found.name, f"{', '.join(absent)} not installed ({found.install or 'no install command given'})")
    return found


def absence(name: str, why: str) -> None:
    """Skip the test or module, or fail it if what it needs was promised."""
    if required(name):
        pytest.fail(f"{name} is required here (UNIAP_REQUIRE): {why}")
    pytest.skip(f"{name}: {why}", allow_module_level=True)


def library(module: str, needed_by: str) -> Any:
    """An import; skips the test, or fails it if the plugin that needs it was promised."""
    try:
        return importlib.import_module(module)
    except ImportError:
        absence(needed_by, f"{module} is not installed")
