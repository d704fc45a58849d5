"""Training under a plan against training the whole model in one process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from uniap_fsdp.data import Field, Stream
from uniap_fsdp.source import fill_all, load
from uniap_fsdp.train import train

from uniap_core.api import Job, ModelGraph, Proposal
from uniap_core.trust import allow

STEPS = 5
JOB = Job(steps=STEPS, learning_rate=1e-3)

Outcome = tuple[list[float], dict[str, torch.Tensor], list[float]]


def alone(graph: ModelGraph, batch: int, job: Job = JOB, optimizer: str = "adamw") -> Outcome:
    """Losses, final parameters and gradient norms of one process with the whole batch."""
    allow(graph.source)  # the tests' own modules
    source = load(graph)
    model = fill_all(source.model, job.seed).train(False)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer]
    opt = kind(model.parameters(), lr=job.learning_rate)
    losses, norms = [], []
    stream: Stream | None = None
    for step in range(job.steps):
        if stream is None:
            with torch.no_grad():
                shapes = [x.shape for x in source.result(model(**source.task.example(1)))]
            task = source.task
            if not task.targets:  # as in train
                fields = tuple(Field(f"classes{i}", tuple(shape[1:-1]), 0) for i, shape in enumerate(shapes))
                task = replace(task, targets=fields)
            stream = Stream(task, batch, job.seed, tuple(shape[-1] for shape in shapes))
        inputs, targets = stream.step(step)
        opt.zero_grad()
        results = source.result(model(**inputs))
        loss = sum(
            torch.nn.functional.cross_entropy(x.flatten(0, -2), target.flatten())
            for x, target in zip(results, targets, strict=True)
        )
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), job.clip_norm or float("inf"))
        opt.step()
        losses.append(loss.item())
        norms.append(norm.item())
    return losses, {name: p.detach() for name, p in model.named_parameters()}, norms


def under_plan(plan: Proposal, job: Job = JOB) -> Any:
    """One rank's losses, its whole parameters by every name they have, and gradient norms."""
    allow(plan.model.source)
    measured, parallel = train(plan, job, "cpu")
    parameters = {}
    for held in parallel.held:
        p = held.parameter.detach()
        parameters[held.alias] = (held.name, p.full_tensor() if isinstance(p, DTensor) else p)
    return measured.losses, {a: (n, p.numpy()) for a, (n, p) in parameters.items()}, measured.norms


def compare(reference: Outcome, results: list[Any], tolerance: float = 1e-5) -> float:
    """The largest relative difference of losses, after asserting that losses, norms and parameters agree."""
    losses, expected, norms = reference
    worst = 0.0
    seen = set()
    for got, parameters, got_norms in results:
        for a, b in zip(losses, got, strict=True):
            worst = max(worst, abs(a - b) / abs(a))
            assert abs(a - b) <= tolerance * abs(a), (losses, got)
        for a, b in zip(norms, got_norms, strict=True):
            assert abs(a - b) <= 1e-4 * abs(a), (norms, got_norms)
        for _, (name, value) in parameters.items():
            seen.add(name)
            torch.testing.assert_close(torch.from_numpy(value), expected[name], atol=2e-4, rtol=1e-3)
    assert seen == set(expected), set(expected) - seen
    return worst
