"""What is kept of a parameter and of the logits: choices of a training, through prices, plans, files and options."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner
from uniap_cost_analytic.memory import recipe

import uniap
from tests.planned import planned
from uniap_core import artifact, plan, registry
from uniap_core.cli import register
from uniap_core.costs import LOSSES, OPTIMIZERS, STATES, Training
from uniap_core.errors import BadValue, Infeasible, Unverified, UsageError
from uniap_core.export import obstacles
from uniap_core.search import check_ability, make
from uniap_core.testing.cost_models import frozen

OLD = Path(__file__).parents[1] / "data" / "v0_1"
TINY = "llama:layers=2,hidden=256,heads=8,kv_heads=4,ffn=512,vocab=1000,seq=128"
PINS = ("pp=1", "tp=1", "c=1", "sharding=none", "recompute=none")


@pytest.mark.parametrize(
    ("optimizer", "states", "precision", "weight", "gradient", "kept"),
    [
        ("adamw", "mixed", "bf16", 2, 4, 12),  # Megatron-LM: 18 bytes
        ("adam", "mixed", "fp32", 4, 4, 8),
        ("sgd", "mixed", "bf16", 2, 4, 8),
        ("adamw", "bf16", "bf16", 2, 2, 4),  # transformers: 8 bytes in pure bf16
        ("adamw", "bf16-moments", "bf16", 2, 4, 8),  # DeepSeek-V3: fp32 master and gradients, bf16 moments
        ("adamw-8bit", "mixed", "bf16", 2, 4, 4 + 2 * (1 + 4 / 256)),  # bitsandbytes: a constant per 256 values
        ("adam-8bit", "mixed", "fp32", 4, 4, 2 * (1 + 4 / 256)),
        ("adamw-8bit", "bf16", "bf16", 2, 2, 2 * (1 + 4 / 256)),
    ],
)
def test_bytes_of_a_parameter(optimizer, states, precision, weight, gradient, kept):
    found = recipe(Training(global_batch=1, precision=precision, optimizer=optimizer, states=states))
    assert (found.weight, found.gradient, found.optimizer) == (weight, gradient, kept)
    assert found.touched >= weight + gradient + kept


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"optimizer": "lion"}, "optimizer is 'lion'"),
        ({"states": "fp8"}, "states is 'fp8'"),
        ({"loss": "none"}, "loss is 'none'"),
        ({"states": "bf16", "precision": "fp16"}, "not in fp16"),
        ({"states": "bf16-moments", "precision": "fp32"}, "not in fp32"),
    ],
)
def test_what_there_is_not_is_refused(fields, words):
    with pytest.raises(BadValue, match=words):
        Training(global_batch=1, **fields)


def test_smaller_states_and_chunked_logits_need_less_and_nothing_more():
    usual = uniap.plan(TINY, "2xA100-40G", 8, pins=PINS).plan.stages[0]
    for fields, part in (
        ({"optimizer": "adamw-8bit"}, "optimizer"),
        ({"states": "bf16-moments"}, "optimizer"),
        ({"states": "bf16"}, "gradients"),
        ({"loss": "chunked"}, "activations"),
    ):
        less = uniap.plan(TINY, "2xA100-40G", 8, pins=PINS, **fields).plan.stages[0]
        assert less.memory_parts_bytes[part] < usual.memory_parts_bytes[part], fields
        assert less.memory_bytes < usual.memory_bytes
        assert less.time_s <= usual.time_s


def test_a_plan_file_says_what_is_unusual_and_nothing_else(tmp_path):
    made = planned(TINY, "tp1-dp8", optimizer="adamw-8bit", states="bf16", loss="chunked")
    plan.write(tmp_path / "plan.json", made)
    assert plan.read(tmp_path / "plan.json") == made
    written = msgspec.json.decode((tmp_path / "plan.json").read_bytes())["training"]
    assert (written["optimizer"], written["states"], written["loss"]) == ("adamw-8bit", "bf16", "chunked")
    usual = msgspec.json.decode(artifact.encode(plan.to_file(planned(TINY, "tp1-dp8"))))["training"]
    assert set(usual) == set(msgspec.json.decode((OLD / "plan.json").read_bytes())["training"])


def test_an_edited_choice_breaks_the_seal_or_is_refused():
    made = planned(TINY, "tp1-dp8")
    document = msgspec.json.decode(artifact.encode(plan.to_file(made)))
    document["training"]["states"] = "bf16"
    with pytest.raises(Unverified, match="edited"):
        plan.check_seal(plan.from_file(msgspec.convert(document, plan.PlanFile)))
    document["training"]["optimizer"] = "lion"
    with pytest.raises(Unverified, match="lion"):
        plan.from_file(msgspec.convert(document, plan.PlanFile))


@pytest.mark.parametrize("executor", ["fsdp", "megatron", "torchtitan"])
def test_executors_refuse_what_they_do_not_run(executor):
    plugin = registry.load("executor", executor)
    able = plugin.capability
    search = make(TINY, "8xA100-80G", 16)
    for name, known, values in (
        ("optimizer", able.optimizers, OPTIMIZERS),
        ("states", able.states, STATES),
        ("loss", able.losses, LOSSES),
    ):
        for value in set(values) - set(known):
            training = msgspec.structs.replace(search.training, **{name: value})
            with pytest.raises(UsageError, match=value):
                check_ability(plugin, search.graph, search.cluster, training, "1f1b")
            made = planned(TINY, "tp1-dp8", **{name: value})
            assert any(value in reason for reason in obstacles(made, plugin))


@pytest.mark.parametrize("executor", ["megatron", "torchtitan"])
def test_exports_refuse_models_with_frozen_parameters(executor):
    plugin = registry.load("executor", executor)
    search = make(TINY, "8xA100-80G", 16)
    part = frozen(search.graph, {"layers.0"})
    with pytest.raises(UsageError, match="are frozen"):
        check_ability(plugin, part, search.cluster, search.training, "1f1b")
    assert any("are frozen" in reason for reason in obstacles(planned(part, "tp1-dp8"), plugin))


def test_an_infeasible_request_is_told_of_smaller_states():
    with pytest.raises(Infeasible, match="--optimizer adamw-8bit"):
        uniap.plan("gpt2-xl", "1xV100-16G", 1)
    done = CliRunner().invoke(register(), ["plan", "gpt2-xl", "-c", "1xA100-40G", "-b", "4", "--loss", "chunked"])
    assert done.exit_code == 0, done.output
    assert "loss chunked" in done.output
