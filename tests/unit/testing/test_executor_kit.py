"""The executors' kit fails a capability that promises what the executor itself refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from uniap_core import registry
from uniap_core.execute import Capability
from uniap_core.testing import ExecutorSuite


def suite(monkeypatch, base="megatron", precisions=("tf32",), machine="4xA100-40G", **fields):
    """The suite of an executor that is a built-in one but for some fields of its descriptor."""
    load = registry.load
    mutant = replace(load("executor", base), name="mutant", **fields)
    monkeypatch.setattr(registry, "load", lambda kind, name: mutant if name == "mutant" else load(kind, name))
    scope = {"executor": "mutant", "machines": (machine,), "precisions": precisions}
    return type("Mutant", (ExecutorSuite,), scope)()


CHECK = "test_every_job_is_refused_before_the_search_or_planned_so_that_it_runs"


def able(base="megatron", **changes):
    return {"capability": replace(registry.load("executor", base).capability, **changes)}


def test_a_precision_too_many(monkeypatch):
    kit = suite(monkeypatch, **able(precisions=("tf32", "bf16")))
    with pytest.raises(AssertionError, match="no switch for tf32"):
        getattr(kit, CHECK)()


def test_a_family_too_many(monkeypatch):
    kit = suite(monkeypatch, precisions=("bf16",), fit="", **able(families=None))
    with pytest.raises(AssertionError, match="not for the family 't5'"):
        getattr(kit, CHECK)()


def test_a_device_too_many(monkeypatch):
    kit = suite(monkeypatch, "torchtitan", ("fp32",), "4xTITANXp-12G", **able("torchtitan", generations=None))
    with pytest.raises(AssertionError, match="does not run on TITANXp"):
        getattr(kit, CHECK)()


def test_nothing_to_ask(monkeypatch):
    kit = suite(monkeypatch, express="", layout="", export="")
    with pytest.raises(AssertionError, match="no check of its own"):
        getattr(kit, CHECK)()


def test_nothing_that_runs(monkeypatch):
    kit = suite(monkeypatch, capability=Capability(families=("none",)))
    with pytest.raises(AssertionError, match="offered nothing"):
        getattr(kit, CHECK)()


def test_the_built_in_one_passes(monkeypatch):
    getattr(suite(monkeypatch, precisions=("bf16",)), CHECK)()
