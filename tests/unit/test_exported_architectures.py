"""Nothing that an architecture records is dropped by an exporter: another value is another file, or a refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import uniap_megatron.expressible
import uniap_megatron.files
import uniap_torchtitan.arguments
import uniap_torchtitan.expressible
import uniap_torchtitan.model
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.architectures import CASES, LLAMA3, MIXES, OTHERS, computing
from tests.editing import changed
from tests.planned import planned
from uniap_core.architecture import ENTRIES, SHAPES, Value, block_parameters, complete
from uniap_core.models import load
from uniap_core.plan import Plan
from uniap_core.verify.architecture import architecture

BASE = planned("llama", "tp1-dp8", dropout=True)


def megatron(plan: Plan) -> str:
    """What is written of the model for Megatron-LM."""
    return uniap_megatron.files.arguments_file(plan) + uniap_megatron.files.launch_script(plan)


def torchtitan(plan: Plan) -> str:
    """What is written of the model for torchtitan."""
    return f"{uniap_torchtitan.arguments.flags(plan)}\n{uniap_torchtitan.model.module_text(plan)}"


Exporter = tuple[Callable[[Plan], str], Callable[[Plan], list[str]]]
EXPORTERS: dict[str, Exporter] = {
    "megatron": (megatron, uniap_megatron.expressible.express),
    "torchtitan": (torchtitan, uniap_torchtitan.expressible.express),
}


@pytest.fixture(params=EXPORTERS)
def exporter(request: pytest.FixtureRequest) -> Exporter:
    return EXPORTERS[request.param]


def recording(facts: dict[str, Value]) -> Plan:
    """The base plan of a model that records other facts."""
    architecture = {**BASE.model.architecture, **facts}
    return changed(BASE, model=replace(BASE.model, architecture=architecture))


def test_there_are_values_to_try_of_every_entry() -> None:
    assert set(OTHERS) == computing()
    assert set(ENTRIES) - computing() == {"kernels"}


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize(("name", "value"), CASES, ids=lambda v: str(v).replace("/", "-"))
def test_another_value_is_another_file_or_refused_by_name(
    exporter: Exporter, mix: str, name: str, value: Value
) -> None:
    write, express = exporter
    plan, other = recording(MIXES[mix]), recording({**MIXES[mix], name: value})
    if complete(plan.model.architecture) == complete(other.model.architecture) or express(plan):
        return
    reasons = express(other)
    assert any(name in reason for reason in reasons) or write(plan) != write(other)


def test_the_base_is_exported_and_every_mix_or_its_cause_named(exporter: Exporter) -> None:
    _, express = exporter
    assert express(BASE) == []
    for mix, facts in MIXES.items():
        reasons = [reason for reason in express(recording(facts)) if " parameters, " not in reason]
        assert not reasons or any(name in reason for name in facts for reason in reasons), mix


@pytest.mark.parametrize("name", OTHERS)
def test_values_that_are_taken_are_told_apart(exporter: Exporter, name: str) -> None:
    """No two values of an entry make the same file, unless one of them is refused."""
    write, express = exporter
    written: dict[str, Value] = {}
    own = complete(BASE.model.architecture)[name]
    for value in dict.fromkeys((own, *OTHERS[name])):
        plan = recording({**(LLAMA3 if name in LLAMA3 and name != "rotary" else {}), name: value})
        if any(name in reason for reason in express(plan) if " parameters, " not in reason):
            continue
        text = write(plan)
        assert text not in written, f"{name}: {value} writes what {written.get(text)} writes"
        written[text] = value


def test_an_entry_that_is_not_in_the_table_is_refused(exporter: Exporter) -> None:
    assert any("hyperlinks 3" in reason for reason in exporter[1](recording({"hyperlinks": 3})))


@pytest.mark.parametrize(
    ("model", "base", "epsilon"),
    [("llama-7b", 10000, 1e-6), ("llama2-7b", 10000, 1e-5), ("llama3-8b", 500000, 1e-5)],
)
def test_published_models_keep_their_rotary_base_and_epsilon(model: str, base: int, epsilon: float) -> None:
    plan = planned(model, "tp1-dp8-zero3", micro_batches=2, cluster="8xB200")
    assert f"--rotary-base={base}" in megatron(plan)
    assert f"--norm-epsilon={epsilon!r}" in megatron(plan)
    assert f"theta={float(base)!r}" in torchtitan(plan)
    assert f"eps={epsilon!r}" in torchtitan(plan)


def test_stretched_rotary_positions() -> None:
    plan = recording(LLAMA3)
    assert {"--use-rope-scaling", "--rope-scaling-factor=8.0"} <= set(megatron(plan).split("\n"))
    assert 'scaling="llama", scaling_factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0' in torchtitan(plan)


@pytest.mark.parametrize(
    "model",
    [
        "llama:layers=2,hidden=64,heads=4,ffn=96,kv_heads=2,head_size=8",
        "gpt:layers=2,hidden=64,heads=4",
        "bert:layers=2,hidden=64,heads=4",
        "mixtral:layers=2,hidden=64,heads=4,ffn=96,experts=3",
    ],
)
def test_blocks_have_the_parameters_that_their_architecture_says(model: str) -> None:
    graph = load(model)
    facts = complete(graph.architecture)
    assert {layer.parameters for layer in graph.layers[1:-1]} == {block_parameters(facts)}


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_block_that_is_not_its_architecture_is_refused(data: st.DataObject) -> None:
    """Sizes of an architecture that the graph does not have: what is launched would not be what was priced."""
    name = data.draw(st.sampled_from(SHAPES))
    plan = recording({name: data.draw(st.integers(1, 1000).filter(lambda n: n != BASE.model.architecture[name]))})
    assert not architecture(plan.model).passed


@pytest.mark.parametrize("value", [-1, 0.5, "4", "1\n--save=/x", float("nan"), float("inf"), None, True], ids=repr)
@pytest.mark.parametrize("name", ["experts", "hidden", "norm_eps", "rotary_base", "sliding_window", "positions"])
def test_values_of_another_type_are_refused(exporter: Exporter, name: str, value: Value) -> None:
    plan = recording({name: value})
    if not (name in ("norm_eps", "rotary_base") and value == 0.5 and value is not True):
        assert any(f"{name} is" in reason for reason in exporter[1](plan))
        assert not architecture(plan.model).passed
