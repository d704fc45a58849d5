"""The conformance suite for executors: they run what was planned, or refuse; never something else."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from uniap_core import export, models, registry, search
from uniap_core.errors import Inexpressible, UniapError, Unverified
from uniap_core.events import silent
from uniap_core.execute import ExecutorPlugin, Job, RunReport, dry_run
from uniap_core.graph import ModelGraph
from uniap_core.plan import Plan

from . import availability

SMALL = (
    "gpt:layers=3,hidden=96,heads=6,vocab=500,seq=64",
    "llama:layers=3,hidden=128,heads=8,kv_heads=2,ffn=256,vocab=512,seq=36",
    "llama:layers=2,hidden=128,heads=8,ffn=256,tied=true,vocab=512,seq=64",
    "bert:layers=2,hidden=128,heads=8,vocab=512,seq=64",
    "t5:layers=2,hidden=128,heads=8,ffn=256,vocab=512,seq=64",
    "mixtral:layers=2,hidden=128,heads=8,kv_heads=4,ffn=256,experts=4,vocab=512,seq=64",
    "vit:layers=2,hidden=128,heads=8",
)
"""Models that some executors run and others do not: heads, key heads and sequences that few degrees divide; ties."""


class ExecutorSuite:
    """Everything that is asked of an executor plugin.

    Attributes
    ----------
    executor
        The name of the entry point.
    model, cluster, batch, schedules
        What is planned for it.
    pins
        Sets of pins; one plan is made under each.
    beyond
        Pins that lead to a plan which it cannot run, if there are any.
    machines, precisions, models
        What is planned for it in every combination (``None``: no precision is named): each is refused before the
        search, or its plan passes the executor's own check.
    local
        Makes a plan that this machine can launch, or ``None``: then nothing is launched.
    """

    executor: ClassVar[str]
    model: ClassVar[str] = "gpt2"
    cluster: ClassVar[str] = "8xA100-40G"
    batch: ClassVar[int] = 16
    pins: ClassVar[tuple[tuple[str, ...], ...]] = ((), ("pp=2",), ("pp=2", "layers.*:tp=2"))
    beyond: ClassVar[tuple[str, ...] | None] = None
    machines: ClassVar[tuple[str, ...]] = (
        "8xV100-32G",
        "2x4xTITANXp-12G",
        "8xA100-40G",
        "2x4xH100-80G",
        "8xMI250X",
    )
    precisions: ClassVar[tuple[str | None, ...]] = (None, "bf16", "fp16", "fp32", "tf32", "fp8")
    models: ClassVar[tuple[str, ...]] = SMALL
    local: ClassVar[Callable[[], Plan] | None] = None

    # --- what subclasses may use ------------------------------------------------------------------------------

    @property
    def plugin(self) -> ExecutorPlugin:
        """The descriptor; skips or fails the test if its library is not installed."""
        found: ExecutorPlugin = availability.plugin("executor", self.executor)
        return found

    def plans(self) -> list[Plan]:
        """The best plan that it can run under each set of pins, under each of its schedules."""
        schedules = self.plugin.capability.schedules
        return [_plan(self.model, self.cluster, self.batch, s, self.executor, p) for s in schedules for p in self.pins]

    def objections(self, plan: Plan) -> list[str]:
        """What the executor itself has against a plan: its own reasons, or what its dry run or its export say.

        Its capability is not asked, which is what is tested.
        """
        plugin, found = self.plugin, []
        if plugin.express:
            found += registry.resolve(plugin.express)(plan)
        elif plugin.layout:
            found += _refusal(lambda: registry.resolve(plugin.layout)(plan))
        if plugin.export and not found:
            with tempfile.TemporaryDirectory() as folder:
                found += _refusal(lambda: registry.resolve(plugin.export)(plan, folder))
        return found

    # --- the descriptor ---------------------------------------------------------------------------------------

    def test_descriptor_is_plain_data_and_its_functions_resolve(self) -> None:
        """Its strings lead to functions, and it can do something."""
        plugin = self.plugin
        assert isinstance(plugin, ExecutorPlugin)
        for target in filter(None, (plugin.layout, plugin.launch, plugin.export, plugin.express)):
            assert callable(registry.resolve(target)), target
        assert plugin.launch or plugin.export
        assert plugin.summary
        assert plugin.install or not plugin.modules

    def test_loading_the_descriptor_imports_no_heavy_library(self) -> None:
        """Listing plugins must stay instant."""
        code = (
            "import sys, uniap_core.api; from uniap_core import registry; before = set(sys.modules); "
            f"plugin = registry.load('executor', {self.executor!r}); "
            "heavy = {'torch', 'megatron', *plugin.modules} & (set(sys.modules) - before); assert not heavy, heavy"
        )
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)

    # --- plans ------------------------------------------------------------------------------------------------

    def test_the_search_finds_only_plans_that_it_can_run(self) -> None:
        """What the capability promises, the executor keeps: the optimum found is one that can be launched."""
        for plan in self.plans():
            assert export.obstacles(plan, self.plugin) == []

    def test_every_job_is_refused_before_the_search_or_planned_so_that_it_runs(self) -> None:
        """On machines of all ages, in all precisions, over several models; its own check judges every plan."""
        plugin, planned = self.plugin, set()
        assert plugin.express or plugin.layout or plugin.export, "it has no check of its own"
        for machine, precision, model in product(self.machines, self.precisions, self.models):
            graph, job = models.load(model), f"{model} on {machine} in {precision or 'whatever is best'}"
            asked = _asked(graph, machine, precision, self.executor)
            if isinstance(asked, UniapError):
                assert asked.cause, job
                assert asked.fix, f"{job}: {asked}"
            elif (machine, asked.training.precision, model) not in planned:
                plan = search.sweep(asked).plan
                assert self.objections(plan) == [], f"{job}: {[layer.strategy.name for layer in plan.layers]}"
                planned.add((machine, plan.precision, model))
        assert planned, "it was offered nothing that it runs"

    def test_its_dry_run_builds_what_was_planned(self) -> None:
        """Ranks, stages and groups are those of the plan."""
        for plan in self.plans():
            built, checks = dry_run(plan, self.plugin)
            assert [c.evidence for c in checks if not c.passed] == []
            assert built.world == plan.cluster.devices
            assert set(built.groups) == {layer.name for layer in plan.layers}

    def test_refuses_a_plan_that_it_cannot_run(self) -> None:
        """With reasons, rather than running something else."""
        if self.beyond is None:
            pytest.skip("it is not said what it cannot run")
        plan = _plan(self.model, self.cluster, self.batch, "1f1b", None, self.beyond)
        assert export.obstacles(plan, self.plugin)
        if self.plugin.layout:
            with pytest.raises(Inexpressible):
                registry.resolve(self.plugin.layout)(plan)

    def test_refuses_an_edited_plan(self, tmp_path: Path) -> None:
        """Nothing that was changed after verification reaches a device or a file."""
        plan = self.plans()[0]
        replace = msgspec.structs.replace
        training = replace(plan.training, global_batch=plan.global_batch * 2)
        proposal = replace(plan.proposal, candidate=replace(plan.candidate, training=training))
        edited = replace(plan, proposal=proposal)
        with pytest.raises(Unverified):
            dry_run(edited, self.plugin)
        if self.plugin.export:
            with pytest.raises(Unverified):
                export.export(edited, self.plugin, tmp_path / "export")
            assert not (tmp_path / "export").exists()
        if self.plugin.launch:
            with pytest.raises(Unverified):
                registry.resolve(self.plugin.launch)(edited, Job(steps=1, device="cpu", folder=str(tmp_path)), silent)

    def test_exports_the_files_that_it_names_and_no_others(self, tmp_path: Path) -> None:
        """Twice the same, with the seal of the plan that they came from."""
        if not self.plugin.export:
            pytest.skip("it does not export")
        for number, plan in enumerate(self.plans()):
            first, second = tmp_path / f"{number}a", tmp_path / f"{number}b"
            written = [Path(name) for name in export.export(plan, self.plugin, first)]
            export.export(plan, self.plugin, second)
            assert set(written) == {path for path in first.rglob("*") if path.is_file()}
            for path in written:
                assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()
            assert any(plan.seal in path.read_text() for path in written)

    def test_launches_and_reports(self, tmp_path: Path) -> None:
        """A short run on this machine: finite losses, and a report of this plan."""
        make = type(self).local
        if not self.plugin.launch or make is None:
            pytest.skip("nothing to launch here")
        plan = make()
        job = Job(steps=2, device="cpu", folder=str(tmp_path))
        report: RunReport = registry.resolve(self.plugin.launch)(plan, job, silent)
        assert report.plan == plan.seal
        assert len(report.losses) == 2
        assert all(math.isfinite(loss) for loss in report.losses)
        assert len(report.stages) == len(plan.stages)


def _asked(graph: ModelGraph, machine: str, precision: str | None, executor: str) -> search.Search | UniapError:
    """A search, or why there is none."""
    try:
        return search.make(graph, machine, 8, precision=precision, executor=executor)
    except UniapError as error:
        return error


def _refusal(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except Inexpressible as error:
        return [error.cause]
    return []


@cache
def _plan(model: str, cluster: str, batch: int, schedule: str, executor: str | None, pins: tuple[str, ...]) -> Plan:
    asked = search.make(model, cluster, batch, schedule=schedule, executor=executor, pins=pins)
    return search.sweep(asked).plan
