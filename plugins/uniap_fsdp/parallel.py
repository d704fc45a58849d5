"""A plan applied to a model on one rank: from whole model to stage module, schedule and parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

from uniap_core.api import Inexpressible, Plan

from . import meshes as mesh_module
from . import split
from .check import check
from .data import Task
from .meshes import Meshes
from .pipeline import Body, Pipe, Running, Ties, schedule
from .reduce import Held, Tie
from .schedules import SPLIT
from .shard import Unit, share
from .source import Source, aliases, fill, first_results, separate, sites_of, skeleton
from .split import Splitting, splitting
from .stage import TARGET, Route, Stage
from .where import Where
from .wiring import Batch, Port, Wiring, record


@dataclass
class Parallel:
    """One rank's part of a plan; unpacks to (module, schedule): its stage, or a list of its stages.

    ``schedule.step(**inputs(...), target=..., losses=[...])`` runs an iteration: all micro-batches forward and
    backward, gradients summed over data-parallel ranks and tied copies. See :meth:`step`.
    """

    module: nn.Module
    schedule: Running
    pipes: list[Pipe]
    stages: list[Stage]
    meshes: Meshes
    held: list[Held]
    notes: tuple[str, ...] = ()

    @property
    def route(self) -> Route:
        """The static facts of the pipeline."""
        return self.stages[0].route

    def __iter__(self) -> Iterator[Any]:
        return iter((self.module, self.schedule))

    def step(self, inputs: Batch, targets: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Forward and backward of a whole global batch, given whole to every rank.

        Returns
        -------
        Tensor
            This rank's share of the loss: zero but on the last stage, equal on ranks of a tensor-parallel group
            there, so that ``shares / tp`` sum to the mean loss.
        """
        kwargs: dict[str, Any] = dict(inputs)
        losses: list[torch.Tensor] = []
        if self.stages[-1].last:
            kwargs |= {f"{TARGET}{i}": target for i, target in enumerate(targets)}
            self.schedule.step(target=targets[0], losses=losses, return_outputs=False, **kwargs)
        else:
            self.schedule.step(return_outputs=False, **kwargs)
        return torch.stack(losses).sum() if losses else torch.zeros((), device=self.pipes[0].device)

    @property
    def replicas_of_loss(self) -> int:
        """Ranks of the stage that hold the same share of the loss."""
        route = self.route
        return route.layouts[route.wiring.sites[route.wiring.result[0].site].layer].grid.size("tp")


def parallelize(
    model: nn.Module,
    plan: Plan,
    *,
    inputs: Callable[[int], Batch] | None = None,
    result: Callable[[Any], tuple[torch.Tensor, ...]] = first_results,
    device: str | None = None,
) -> Parallel:
    """Apply a plan to a model, for people with a training loop of their own.

    Every rank of the initialized world calls it with the same whole model, whose parameters may be on the meta
    device (then they are initialized, layer by layer) or have values (then those are used).

    Parameters
    ----------
    model
        The module that the plan's graph was made from; layers lie at the paths that the graph names.
    plan
        The plan; its world is that of the default process group.
    inputs
        Makes the model's keyword arguments for a number of samples (default: token ids under the name of the
        model's first argument).
    result
        Picks the logits out of what the model returns, one tensor for each target.
    device
        ``cpu`` or ``cuda`` (default: that of the process group).

    Returns
    -------
    Parallel
        Unpacks to the stage module and the schedule.

    Raises
    ------
    Inexpressible
        If the plan cannot be run with this model.
    """
    check(plan)
    task = Task((), ())
    example = inputs or _token_inputs(model, plan)
    sites = sites_of(plan.model, model)
    separate(model, sites)
    source = Source(model, sites, task, result)
    kind = device or ("cuda" if "nccl" in str(dist.get_backend()) else "cpu")
    return apply(source, plan, kind, example=example)


def _token_inputs(model: nn.Module, plan: Plan) -> Callable[[int], Batch]:
    import inspect

    name = next(iter(inspect.signature(model.forward).parameters))
    return lambda samples: {name: torch.zeros(samples, plan.sequence, dtype=torch.long)}


def apply(
    source: Source,
    plan: Plan,
    kind: str,
    *,
    seed: int = 0,
    where: Where | None = None,
    example: Callable[[int], Batch] | None = None,
    wiring: Wiring | None = None,
    dry: bool = False,
) -> Parallel:
    """Build this rank's part of a plan; every rank of the world must call it.

    Parameters
    ----------
    kind
        ``cpu`` or ``cuda``.
    seed
        Of initial weights, where the model has none.
    where
        This rank's marker of what it is doing.
    example
        Makes model inputs (default: those of the source's task).
    wiring
        The model's, if it is known already.
    dry
        Whether to build without data and without communication, in a fake world.
    """
    model, sites = source.model, source.sites
    device = torch.device("cuda", torch.cuda.current_device()) if kind == "cuda" else torch.device(kind)
    wiring = wiring or wire(source, example)
    widths = {layer.strategy.tp for layer in plan.layers}
    width = plan.candidate.pipeline.devices_per_rank(plan.cluster.devices)
    world = mesh_module.make(kind, plan.pp, width, widths, replicas=plan.precision == "bf16")
    first = aliases(model)
    modules = {path: model.get_submodule(path) for path in sites}
    layers = {layer.name: layer for layer in plan.model.layers}
    splits = {path: splitting(modules[path], path, layers[layer]) for path, layer in sites.items()}
    route = route_of(plan, wiring, splits)
    chunks = plan.candidate.pipeline.chunks
    places = [place for place, rank in enumerate(chunks) if rank == world.pipeline_rank]
    units: dict[str, Unit] = {}
    for path, layer in sites.items():
        if route.stage_of[layer] not in places:
            continue
        module = model.get_submodule(path) if dry else fill(model, path, first, seed, device)
        units[path] = _unit(module, splits[path], plan, layer, route, world)
    copies = _copies(first, sites)
    held = _held(units, first, {name: next(iter(found)) for name, found in copies.items()})
    ties = Ties(() if dry else _ties(copies, route, chunks, world, held), places)
    # Each stage puts its stand-ins into a model of its own, of the same layers.
    models = [model, *(skeleton(model, sites) for _ in places[1:])]
    stages = []
    for place, own in zip(places, models, strict=True):
        mine = {path: unit for path, unit in units.items() if route.stage_of[sites[path]] == place}
        stages.append(Stage(own, place, mine, route, world, source.result, where))
    _move_buffers(nn.ModuleList(stages), device)
    pipes = []
    for stage in stages:
        _root(stage, world)
        stage.train(plan.training.dropout)
        pipes.append(Pipe(Body(stage), stage, world, device, ties))
    return Parallel(
        pipes[0].submod if len(pipes) == 1 else nn.ModuleList(pipe.submod for pipe in pipes),
        schedule(plan.schedule, pipes, plan.micro_batches),
        pipes,
        stages,
        world,
        held,
        _notes(plan, route, sites),
    )


def _root(stage: Stage, world: Meshes) -> None:
    """Make a stage the root of the layers in it that FSDP has."""
    loose = set(stage.parameters())
    loose -= {p for unit in stage.units.values() if unit.sharing == "fsdp" for p in unit.parameters()}
    if any(unit.sharing == "fsdp" for unit in stage.units.values()):
        fully_shard(stage, mesh=world.dp(1), ignored_params=loose)


def _notes(plan: Plan, route: Route, sites: Mapping[str, str]) -> tuple[str, ...]:
    """Where the run deviates from the plan's letter."""
    blocks = {layer.name for layer in plan.model.layers if any(op.kind == "attention" for op in layer.operators)}
    sliced = {layer for path, layer in sites.items() if route.layouts[layer].split and route.borders[path].inputs[0]}
    wanted = [x.name for x in plan.layers if x.strategy.sequence_parallel and x.strategy.tp > 1]
    whole = [name for name in wanted if name in blocks and name not in sliced]
    if not whole:
        return ()
    more = f" and {len(whole) - 3} more" if len(whole) > 3 else ""
    return (f"no sequence parallelism inside {', '.join(whole[:3])}{more}: whole activations are kept there",)


def _move_buffers(module: nn.Module, device: torch.device) -> None:
    """Move buffers to a device; those that modules share stay shared."""
    moved: dict[int, torch.Tensor] = {}
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, moved.setdefault(id(buffer), buffer.to(device)))


def wire(source: Source, example: Callable[[int], Batch] | None = None) -> Wiring:
    """The data flow between the layers of a model."""
    return record(source.model, source.sites, example or source.task.example, source.result)


def _unit(module: nn.Module, splits: Splitting, plan: Plan, layer: str, route: Route, world: Meshes) -> Unit:
    strategy = next(one.strategy for one in plan.layers if one.name == layer)
    if strategy.tp > 1:
        split.apply(module, splits.styles(route.layouts[layer].split), world.tp(strategy.tp))
    unit = Unit(module, strategy)
    share(unit, world, plan.precision)
    return unit


def route_of(plan: Plan, wiring: Wiring, splits: Mapping[str, Splitting]) -> Route:
    """The static facts that all ranks share.

    Raises
    ------
    Inexpressible
        If activations of different layouts are combined outside of layers.
    """
    rows = {
        site.layer: max(wiring.shape(port).rows for port in _ports(wiring, i)) for i, site in enumerate(wiring.sites)
    }
    layouts = {}
    for layer in plan.layers:
        made = layer.strategy.layout
        tp = made.grid.size("tp")
        split = made.split and tp > 1 and rows.get(layer.name, 1) % tp == 0
        layouts[layer.name] = made._replace(split=split)
    stage_of = {layer.name: layer.stage for layer in plan.layers}
    route = Route(
        wiring=wiring,
        stage_of=stage_of,
        layouts=layouts,
        borders={path: one.borders for path, one in splits.items()},
        boundaries=wiring.boundaries(stage_of, len(plan.candidate.pipeline.chunks)),
        micro_batch=plan.global_batch // plan.micro_batches,
        samples=plan.global_batch,
        dtype=torch.bfloat16 if plan.precision == "bf16" else torch.float32,
        split=plan.schedule in SPLIT,
    )
    for site in wiring.sites:
        for leaf in site.inputs:
            if len({route.layout(port, stage_of[site.layer]) for port in leaf.ports}) > 1:
                meet = " and ".join(sorted({wiring.sites[port.site].layer for port in leaf.ports}))
                raise Inexpressible(
                    f"the model combines {meet} outside of its layers, and their strategies differ",
                    f"pin them to one strategy (--pin), or trace with --layers so that {site.layer} holds them",
                )
    return route


def _ports(wiring: Wiring, site: int) -> list[Port]:
    made = [Port(site, k) for k, leaf in enumerate(wiring.sites[site].outputs) if leaf.ports]
    read = [port for leaf in wiring.sites[site].inputs for port in leaf.ports]
    return made + read


def _held(units: Mapping[str, Unit], first: Mapping[str, str], owners: Mapping[str, str]) -> list[Held]:
    held = []
    for path, unit in units.items():
        for name, parameter in unit.layer.named_parameters():
            alias = f"{path}.{name}"
            held.append(Held(first[alias], alias, parameter, unit, owners[first[alias]] == alias))
    return held


def _copies(first: Mapping[str, str], sites: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """By first name of each parameter: its names inside planned layers, each with its layer; the first one owns."""
    copies: dict[str, dict[str, str]] = {}
    for path, layer in sites.items():
        for alias, canonical in first.items():
            if alias.startswith(path + "."):
                copies.setdefault(canonical, {})[alias] = layer
    return copies


def _ties(
    copies: Mapping[str, Mapping[str, str]], route: Route, chunks: Sequence[int], world: Meshes, held: list[Held]
) -> tuple[Tie, ...]:
    """The tied parameters and the groups that sum their gradients; every rank must call it."""
    shared = {name: found for name, found in copies.items() if len(found) > 1}
    if not shared:
        return ()
    everywhere: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, {one.alias: one.cut for one in held if one.name in shared})
    cuts = {alias: cut for part in everywhere for alias, cut in part.items()}
    groups: dict[tuple[int, ...], dist.ProcessGroup] = {}
    ties = []
    for name, found in shared.items():
        ranks = tuple(sorted({chunks[route.stage_of[layer]] for layer in found.values()}))
        if len(ranks) > 1 and ranks not in groups:
            for peers in world.pipelines.groups(range(dist.get_world_size())):
                group = dist.new_group([peers[rank] for rank in ranks])
                if dist.get_rank() in (peers[rank] for rank in ranks):
                    groups[ranks] = group
            assert dist.group.WORLD is not None
            groups.setdefault(ranks, dist.group.WORLD)
        mine = tuple(one for one in held if one.name == name)
        alike = len({cuts[alias] for alias in found}) == 1
        ties.append(Tie(mine, groups[ranks] if len(ranks) > 1 else None, alike))
    return tuple(ties)
