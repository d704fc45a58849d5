"""Nothing that an architecture records is dropped by an exported script: another model is built, or none."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from fsdp_plans import proposal  # noqa: E402
from msgspec.structs import replace  # noqa: E402
from uniap_fsdp.likeness import differences  # noqa: E402
from uniap_fsdp.models import build  # noqa: E402

from tests.architectures import CASES, LLAMA3, MIXES  # noqa: E402
from tests.editing import changed  # noqa: E402
from uniap_core.architecture import Value, complete  # noqa: E402
from uniap_core.models import load  # noqa: E402
from uniap_core.verify.architecture import architecture  # noqa: E402

pytestmark = pytest.mark.torch

GRAPH = load("llama:layers=2,hidden=32,heads=4,kv_heads=2,ffn=48,vocab=64,seq=24")
SMALL = {"rotary_positions": 12}


def logits(facts: dict[str, Value]) -> torch.Tensor:
    """What the code here computes of a model that records these facts, with weights by name and size."""
    model = build(replace(GRAPH, architecture={**GRAPH.architecture, **facts}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in name else 0.2 * noise)
        return model(torch.arange(24)[None])


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize(("name", "value"), CASES, ids=lambda v: str(v).replace("/", "-"))
def test_another_value_is_another_model_or_refused_by_name(mix: str, name: str, value: Value) -> None:
    base = {**MIXES[mix], **(SMALL if mix == "llama3" else {})}
    other = {**base, name: value}
    architecture = {**GRAPH.architecture, **other}
    if complete(architecture) == complete({**GRAPH.architecture, **base}):
        return
    plan = changed(proposal(replace(GRAPH, architecture=architecture), 2, "tp1-dp2"))
    reasons = "; ".join(differences(plan))
    if name.endswith("_dropout"):
        return  # what a plan without dropout trains has none
    if name in reasons or "parameters" in reasons or name.replace("_", " ") in reasons:
        return
    if (name == "sliding_window" and int(value) >= GRAPH.sequence) or (name, value) == ("rotary", "linear"):
        # A window that sees everything, and positions stretched by 1: the same model.
        assert torch.equal(logits(base), logits(other))
        return
    assert not torch.equal(logits(base), logits(other))


@pytest.mark.parametrize("mix", [{}, LLAMA3, {"rotary": "linear", "rotary_factor": 2.0}], ids=str)
def test_what_can_be_built_is_not_refused(mix: dict[str, Value]) -> None:
    graph = replace(GRAPH, architecture={**GRAPH.architecture, **mix})
    assert list(differences(proposal(graph, 2, "tp1-dp2"))) == []


@pytest.mark.parametrize("model", ["gpt", "bert", "t5"])
@pytest.mark.parametrize(("name", "value"), CASES, ids=lambda v: str(v).replace("/", "-"))
def test_models_without_settings_refuse_them(model: str, name: str, value: Value) -> None:
    sizes = {"t5": "ffn=48,head_size=8,"}.get(model, "")
    graph = load(f"{model}:layers=2,hidden=32,heads=4,{sizes}vocab=64,seq=24")
    other = {**graph.architecture, name: value}
    if complete(other) == complete(graph.architecture) or name.endswith("_dropout"):
        return
    graph = replace(graph, architecture=other)
    reasons = "; ".join(differences(proposal(graph, 2, "tp1-dp2")))
    # The gate of every export holds the graph against its architecture too.
    assert name in reasons or "parameters" in reasons or "no layer" in reasons or not architecture(graph).passed
