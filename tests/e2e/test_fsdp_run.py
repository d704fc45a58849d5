"""From a Hugging Face config to trained steps on four CPU processes, and what happens when one of them dies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import fsdp_parity as parity
from fsdp_plans import cluster
from fsdp_ranks import Ranks
from uniap_fsdp.launch import launch

import uniap
from tests.editing import changed
from uniap_core.api import Job, LaunchFailed, Progress, Unverified, read
from uniap_core.execute import RunReport

pytestmark = [pytest.mark.torch, pytest.mark.slow]

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
}
PINS = [
    "pp=2",
    "micro_batches=4",
    "layers.0:tp=2",
    "layers.1-2:dp=2",
    "layers.2:sharding=zero3",
    "layers.*:recompute=full",
]


def planned(model: str, pins: list[str], **options: Any) -> Any:
    return uniap.plan(model, cluster(4), 8, precision="fp32", pins=pins, executor="fsdp", **options).plan


def test_a_traced_model_is_planned_launched_and_trained(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    plan = planned(f"hf:{config}", PINS, seq=16)
    job = Job(steps=4, folder=str(tmp_path / "run"), checkpoint=str(tmp_path / "saved"))
    events: list[Any] = []
    report = launch(plan, job, events.append)
    rank = Ranks(1)
    losses, _, norms = rank.run(parity.alone, plan.model, 8, job, plan.training.optimizer)[0]
    rank.close()
    assert report.losses == pytest.approx(losses, rel=1e-5)
    assert report.gradient_norms == pytest.approx(norms, rel=1e-4)
    assert [event.done for event in events if isinstance(event, Progress)] == [1, 2, 3, 4]
    assert [stage.ranks for stage in report.stages] == [((0, 1), (2, 3))[rank] for rank in plan.chunks]
    assert all(stage.measured_time_s > 0 for stage in report.stages)
    assert report.predicted_time_s == plan.predicted.iteration_time_s
    assert read(tmp_path / "run" / "report.json", RunReport) == report
    for number in range(4):
        assert "step 4: loss" in (tmp_path / "run" / f"rank-{number}.log").read_text()
    assert (tmp_path / "saved" / "step-4" / ".metadata").is_file()


def test_the_death_of_a_rank_ends_the_run_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    plan = planned("fsdp_crashing:factory", ["pp=1", "micro_batches=1"])
    with pytest.raises(LaunchFailed) as caught:
        launch(plan, Job(steps=3, folder=str(tmp_path)), lambda event: None)
    assert "rank 1 was killed by signal 9 during forward of layer layers.2" in caught.value.cause
    assert plan.layers[2].strategy.name in caught.value.cause
    assert str(tmp_path / "rank-1.log") in caught.value.fix
    assert "step 1: loss" in (tmp_path / "rank-0.log").read_text()


def test_an_edited_plan_is_not_launched(tmp_path: Path) -> None:
    plan = planned("gpt:layers=2,hidden=32,heads=4,vocab=64,seq=16", ["pp=1"])
    edited = changed(plan, micro_batches=plan.micro_batches * 2)
    with pytest.raises(Unverified):
        launch(edited, Job(folder=str(tmp_path)), lambda event: None)
    assert list(tmp_path.iterdir()) == []
