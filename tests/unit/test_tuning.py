"""What of a model is trained: adapters, quantised or not, and frozen parts, through graph, prices, plans and files."""

from __future__ import annotations

import msgspec
import pytest
from typer.testing import CliRunner

import uniap
from tests.planned import planned
from uniap_core import artifact, models, plan, registry
from uniap_core.cli import register
from uniap_core.errors import BadValue, UsageError
from uniap_core.estimate import estimate
from uniap_core.export import obstacles
from uniap_core.graph import ModelGraph
from uniap_core.modules import again
from uniap_core.report.page import page
from uniap_core.search import make
from uniap_core.tuning import NF4_BYTES, NF4_DOUBLE_BYTES, adapters, tuned
from uniap_core.verify.architecture import architecture

TINY = "llama:layers=2,hidden=256,heads=8,kv_heads=4,ffn=512,vocab=1000,seq=64"
ONE = ("pp=1", "tp=1", "c=1", "sharding=none", "recompute=none")


@pytest.fixture(scope="module")
def tiny() -> ModelGraph:
    return models.load(TINY)


# --- words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["lora:r=16,targets=all-linear", "lora:r=8,targets=q_proj+v_proj", "qlora:r=64,targets=all-linear,double=no"],
)
def test_words_mean_themselves(text):
    assert adapters(text).words == text
    assert adapters(text.partition(":")[0]).rank == 16


@pytest.mark.parametrize(
    "text", ["", "dora", "lora:r=0", "lora:r=x", "lora:rank=8", "lora:targets=", "lora:double=no", "qlora:double=maybe"]
)
def test_words_that_mean_nothing_are_refused(text):
    with pytest.raises(BadValue, match="--train"):
        adapters(text)


@pytest.mark.parametrize(
    ("train", "freeze", "words"),
    [
        ("lora:targets=lm_head", (), "called 'lm_head'(.|\n)*choose of q_proj"),
        ("lora:targets=q_proj+kv", (), "'kv'"),
        (None, ("tower.*",), "matches nothing"),
        (None, ("*",), "left to train"),
        ("lora", ("layers.*",), "left to train"),
    ],
)
def test_what_matches_nothing_or_leaves_nothing_is_refused(tiny, train, freeze, words):
    with pytest.raises(BadValue, match=words) as refused:
        tuned(tiny, train, freeze)
    assert refused.value.fix


def test_a_choice_is_made_once(tiny):
    with pytest.raises(BadValue, match="chosen already: --train lora"):
        tuned(tuned(tiny, "lora"), None, ["embedding"])
    with pytest.raises(BadValue, match="three dimensions"):
        tuned(models.load("mixtral-8x7b"), "qlora")


# --- graphs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "train", "count"),
    [
        # As PEFT's print_trainable_parameters says of the published models.
        ("llama3-8b", "lora:r=8,targets=q_proj+v_proj", 3_407_872),
        ("llama3-8b", "lora:r=16", 41_943_040),
        ("llama2-7b", "lora:r=8,targets=q_proj+v_proj", 4_194_304),
        ("llama2-7b", "qlora:r=64", 159_907_840),
        ("gpt2", "lora:r=8,targets=c_attn", 294_912),
    ],
)
def test_as_many_are_trained_as_peft_trains(model, train, count):
    graph = models.load(model)
    chosen = tuned(graph, train)
    assert chosen.trained == count
    assert chosen.parameters == graph.parameters + count
    assert "embedding" in chosen.without_backward
    assert architecture(chosen).passed


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT asks transformers so
@pytest.mark.parametrize(("targets", "name"), [("all-linear", "everywhere"), ("q_proj+v_proj", "attention")])
def test_a_traced_peft_model_is_what_the_option_makes(tiny, targets, name):
    """Parameters, FLOPs and kept bytes of every layer that gradients run through are those that PEFT's modules have."""
    pytest.importorskip("torch")
    pytest.importorskip("peft")
    from uniap_torch.trace import trace

    from tests.unit import peft_models

    traced, chosen = trace(f"{peft_models.__name__}:{name}", 64), tuned(tiny, f"lora:r=8,targets={targets}")
    assert traced.adapted
    assert (traced.trained, traced.parameters) == (chosen.trained, chosen.parameters)
    assert traced.without_backward == chosen.without_backward
    for mine, theirs in zip(chosen.layers[2:], traced.layers[2:], strict=True):
        assert mine.flops(1, 64) == theirs.flops(1, 64)
        assert mine.saved_bytes(1, 64) == theirs.saved_bytes(1, 64)
    with pytest.raises(BadValue, match="has adapters already"):
        tuned(traced, "lora")


def test_packed_weights_are_no_model_to_trace():
    pytest.importorskip("torch")
    pytest.importorskip("peft")
    from uniap_torch.trace import trace

    from tests.unit import peft_models

    with pytest.raises(BadValue, match="quantised"):
        trace(f"{peft_models.__name__}:packed", 64)


def test_an_input_that_a_later_adapter_needs_is_kept_once(tiny):
    """Of products that share an input, the first keeps it: it does so for the others where it has no adapter itself."""
    graph = models.load("t5-large")
    block = next(layer for layer in graph.layers if any(op.name == "cross_kv" for op in layer.operators))
    asked = next(x for x in tuned(graph, "lora:targets=cross_kv").layers if x.name == block.name)
    kept = {op.name: op.saved for op in asked.operators}
    assert kept["cross_q"] == next(op.saved for op in block.operators if op.name == "cross_q")
    both = next(x for x in tuned(graph, "lora:targets=cross_q+cross_kv").layers if x.name == block.name)
    kept = {op.name: op.saved for op in both.operators}
    keepers = [name for name in ("cross_q", "cross_q.q.lora_A", "cross_kv.k.lora_A") if kept[name]]
    assert keepers == ["cross_q"]


def test_an_mlp_that_runs_again_is_given_its_input(tiny):
    """What a recomputed module is given stays, with adapters in it as without."""
    block = tuned(tiny, "lora:r=8").layers[1].operators
    told = dict(zip((op.name for op in block), again(block, "mlp"), strict=True))
    first = next(op for op in block if told[op.name].runs)
    assert first.name == "gate_up"
    assert first.saved
    assert not told["gate_up"].rest
    assert told["gate_up.gate_proj.lora_B"].rest


def test_freezing_takes_a_tied_weight_with_all_that_share_it():
    graph = models.load("gpt2")
    for pattern in ("embedding.tokens", "head.lm_head"):
        found = {
            (layer.name, op.name)
            for layer in tuned(graph, freeze=[pattern]).layers
            for op in layer.operators
            if op.frozen
        }
        assert found == {("embedding", "tokens"), ("head", "lm_head")}


def test_patterns_are_of_modules_too(tiny):
    chosen = tuned(tiny, freeze=["model.layers.0", "embedding"])
    assert chosen.without_backward == {"embedding", "layers.0"}
    assert chosen.parameters == tiny.parameters
    assert chosen.trained == tiny.parameters - tiny.layers[0].parameters - tiny.layers[1].parameters


def test_a_traced_layer_keeps_what_it_kept(tiny):
    """Who else needs a tensor is not known there: what is kept for a weight stays, which is a bound."""
    unknown = msgspec.structs.replace(tiny, architecture={})
    for layer, before in zip(tuned(unknown, freeze=["layers.1"]).layers, tiny.layers, strict=True):
        assert layer.saved_bytes(1, 64) == before.saved_bytes(1, 64)
    for bound, exact in zip(tuned(unknown, "lora").layers, tuned(tiny, "lora").layers, strict=True):
        assert bound.saved_bytes(1, 64) >= exact.saved_bytes(1, 64)


# --- prices and plans -------------------------------------------------------------------------------------------


def test_memory_is_what_peft_and_bitsandbytes_keep():
    """The arithmetic of docs/howto/adapters.md, to the byte where states are whole."""
    base = models.load("llama3-8b")
    blocks = sum(op.parameters for x in base.layers[1:-1] for op in x.operators if op.kind == "gemm")
    trained = 41_943_040
    parts = {}
    for train, weights in (
        ("lora:r=16", 2 * base.parameters),
        ("qlora:r=16", NF4_DOUBLE_BYTES * blocks + 2 * (base.parameters - blocks)),
        ("qlora:r=16,double=no", NF4_BYTES * blocks + 2 * (base.parameters - blocks)),
    ):
        found = uniap.plan("llama3-8b", "1xH100-80G", 1, seq=512, train=train, pins=ONE).plan
        parts[train] = found.stages[0]
        have = found.stages[0].memory_parts_bytes
        assert have["parameters"] == pytest.approx(weights + 4 * trained, rel=1e-9)
        assert have["gradients"] == pytest.approx(4 * trained, rel=1e-9)
        assert have["optimizer"] == pytest.approx(8 * trained, rel=1e-9)
    # Four bits save memory and cost a pass over the weights for every product.
    assert (
        parts["qlora:r=16"].memory_bytes < parts["qlora:r=16,double=no"].memory_bytes < parts["lora:r=16"].memory_bytes
    )
    assert parts["qlora:r=16"].time_s > parts["lora:r=16"].time_s


def test_adapters_need_less_time_and_memory_than_all_weights():
    model = "llama:layers=2,hidden=2048,heads=16,ffn=8192,vocab=1000,seq=512"
    usual = uniap.plan(model, "1xH100-80G", 16, pins=ONE).plan.stages[0]
    less = uniap.plan(model, "1xH100-80G", 16, train="lora:r=4,targets=q_proj", pins=ONE).plan.stages[0]
    assert less.time_s < usual.time_s
    for part in ("gradients", "optimizer", "activations"):
        assert less.memory_parts_bytes[part] < usual.memory_parts_bytes[part], part


def test_a_plan_file_records_what_is_trained(tmp_path):
    made = uniap.plan(TINY, "2xA100-40G", 8, train="lora:r=8", freeze=["layers.0.*"]).plan
    plan.write(tmp_path / "plan.json", made)
    again = plan.read(tmp_path / "plan.json")
    assert again == made
    plan.check_seal(again)
    assert uniap.verify(again).passed
    tuning = msgspec.json.decode((tmp_path / "plan.json").read_bytes())["model"]["tuning"]
    assert tuning == {"train": "lora:r=8,targets=all-linear", "freeze": ["layers.0.*"]}
    assert "--train lora:r=8,targets=all-linear --freeze" in page(made).replace("&#x27;", "'")
    usual = msgspec.json.decode(artifact.encode(plan.to_file(planned(TINY, "tp1-dp8"))))
    assert "tuning" not in usual["model"]


@pytest.mark.parametrize("executor", ["fsdp", "megatron", "torchtitan"])
def test_executors_refuse_adapters_that_their_models_have_not(executor):
    with pytest.raises(UsageError, match="neither adds adapters nor freezes"):
        make(TINY, "8xA100-80G", 16, train="lora", executor=executor)
    made = uniap.plan(TINY, "2xA100-40G", 8, freeze=["embedding"]).plan
    reasons = obstacles(made, registry.load("executor", executor))
    assert any("--freeze embedding" in reason for reason in reasons)


def test_the_command_line_says_what_is_trained():
    asked = ["plan", TINY, "-c", "2xA100-40G", "-b", "8"]
    done = CliRunner().invoke(register(), [*asked, "--train", "qlora:r=4"])
    assert done.exit_code == 0, done.output
    assert "qlora:r=4" in done.output
    assert "parameters trained" in done.output
    done = CliRunner().invoke(register(), [*asked, "--freeze", "nothing.*"])
    assert done.exit_code == 2


def test_a_row_of_a_table_says_what_is_trained():
    row = {
        "gpu": "H100-80G",
        "num_gpus": "1",
        "model": "Llama3-8B",
        "seq": "2048",
        "global_batch": "4",
        "micro_batch": "1",
        "precision": "bf16",
    }
    plain, adapted, typo = estimate([row, row | {"train": "lora:r=16"}, row | {"train": "lora16"}])
    assert (plain["pred_fits"], adapted["pred_fits"]) == ("false", "true")
    assert float(adapted["pred_iter_time_s"]) < float(plain["pred_iter_time_s"])
    assert not typo["pred_iter_time_s"]
    assert "--train" in typo["pred_note"]
