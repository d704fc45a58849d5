"""A row and a plan pinned to what it says, of the same software on the same machine: one price."""

from __future__ import annotations

import pytest

from uniap_core.cluster import load as cluster
from uniap_core.costs import Candidate
from uniap_core.estimate import Prediction, parse, predict, pricer
from uniap_core.estimate.prediction import uniform
from uniap_core.events import Note
from uniap_core.search import make, price, sweep

LLAMA = {"model": "llama3-8b", "seq": "4096"}
GPT = {"model": "gpt3-1.3b", "seq": "2048"}
ROWS = [
    (LLAMA, "8xH100-80G", {"tp": "1", "pp": "1", "dp": "8", "sharding": "zero3", "recompute": "full"}),
    (LLAMA, "8xH100-80G", {"tp": "2", "pp": "1", "dp": "4", "sharding": "zero1", "recompute": "selective"}),
    (LLAMA, "8xA100-80G", {"tp": "4", "pp": "2", "dp": "1", "sharding": "none", "recompute": "none"}),
    (GPT, "8xA100-80G", {"tp": "1", "pp": "1", "dp": "8", "sharding": "zero1", "recompute": "none"}),
    (GPT, "8xH100-80G", {"tp": "2", "pp": "2", "dp": "2", "sharding": "zero2", "recompute": "full"}),
]
SYSTEMS = ("", "Megatron-LM", "Megatron Core", "NeMo", "DeepSpeed", "PyTorch FSDP2", "torchtitan + torch.compile")


def row_of(model: dict[str, str], machine: str, plan: dict[str, str], system: str) -> dict[str, str]:
    run = {"gpu": machine[2:], "num_gpus": "8", "gpus_per_node": "8", "global_batch": "16", "micro_batch": "1"}
    return model | plan | run | {"system": system, "precision": "bf16"}


def pinned(model: dict[str, str], machine: str, plan: dict[str, str], **chosen: str | None):
    pins = [f"{name}={plan[name]}" for name in ("tp", "pp", "sharding", "recompute")]
    pins.append(f"micro_batches={16 // int(plan['dp'])}")
    return make(model["model"], cluster(machine), 16, seq=int(model["seq"]), precision="bf16", pins=pins, **chosen)


def estimated(row: dict[str, str]) -> Prediction:
    return predict(parse(row, []), pricer("analytic"))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("model", "machine", "plan"), ROWS)
def test_a_row_costs_what_a_plan_pinned_to_it_does(model, machine, plan, system) -> None:
    said = parse(row_of(model, machine, plan, system), [])
    found = predict(said, pricer("analytic"))
    search = pinned(model, machine, plan, system=system or None)
    assert search.training == said.candidate.training
    candidate = Candidate.of(int(plan["pp"]), said.candidate.micro_batches, search.training)
    tables = price(search, candidate)
    k = next(k for k, s in enumerate(tables.layers[0].strategies) if s.sequence_parallel == (s.tp > 1))
    planned = uniform(search.graph, tables, k)
    assert planned.iteration_s == pytest.approx(found.iteration_s, rel=1e-6)
    assert planned.memory_bytes == pytest.approx(found.memory_bytes, rel=1e-6)
    assert planned.fits == found.fits


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_plan_that_is_found_takes_as_long(system: str) -> None:
    model, machine, plan = ROWS[1]
    found = sweep(pinned(model, machine, plan, system=system or None)).plan
    seconds = estimated(row_of(model, machine, plan, system)).iteration_s
    assert found.predicted.iteration_time_s == pytest.approx(seconds, rel=1e-6)


@pytest.mark.parametrize(("executor", "system"), [("fsdp", "PyTorch FSDP2"), ("megatron", "Megatron Core")])
def test_an_executor_implies_its_software(executor: str, system: str) -> None:
    model, machine, plan = ROWS[1]
    search = pinned(model, machine, plan, executor=executor)
    assert search.training.system == system
    assert search.training == pinned(model, machine, plan, system=system).training
    assert search.graph == pinned(model, machine, plan, system=system).graph


def test_what_is_assumed_is_said() -> None:
    said: list[str] = []

    def emit(event: object) -> None:
        if isinstance(event, Note):
            said.append(event.text)

    make("llama3-8b", "8xH100-80G", 16, emit=emit)
    assert any("software assumed: PyTorch with eager kernels" in text for text in said)
    said.clear()
    make("llama3-8b", "8xH100-80G", 16, system="megatron", emit=emit)
    assert said == []
    notes: list[str] = []
    parse(row_of(*ROWS[0], ""), notes)
    assert any("software PyTorch with eager kernels" in note for note in notes)
