"""What flows between layers, found by running the model on fake tensors."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from uniap_fsdp.source import aliases, fill_all, load, parameters_on_meta  # noqa: E402
from uniap_fsdp.wiring import Port, record  # noqa: E402

from uniap_core.api import Inexpressible  # noqa: E402
from uniap_zoo import build  # noqa: E402

pytestmark = pytest.mark.torch

FAMILIES = (
    "llama:layers=2,hidden=32,heads=4,kv_heads=2,ffn=64,vocab=64,seq=16",
    "gpt:layers=2,hidden=32,heads=4,vocab=64,seq=16",
    "bert:layers=2,hidden=32,heads=4,vocab=64,seq=16",
    "t5:layers=2,hidden=32,heads=4,head_size=8,ffn=64,vocab=64,seq=16",
)


@pytest.mark.parametrize("name", FAMILIES)
def test_models_have_the_parameters_of_their_graphs(name: str) -> None:
    graph = build(name)
    model = load(graph).model
    assert sum(p.numel() for p in model.parameters()) == graph.parameters
    assert all(p.is_meta for p in model.parameters())
    for layer in graph.layers:
        held = sum(p.numel() for p in model.get_submodule(layer.name).parameters())
        assert held >= layer.own_parameters


@pytest.mark.parametrize("name", FAMILIES)
def test_edges_are_those_of_the_graph(name: str) -> None:
    graph = build(name)
    source = load(graph)
    wiring = record(source.model, source.sites, source.task.example, source.result)
    found = {
        (wiring.sites[port.site].layer, site.layer)
        for site in wiring.sites
        for leaf in site.inputs
        for port in leaf.ports
    }
    assert found == {(edge.source, edge.target) for edge in graph.edges}
    assert not wiring.glue


def test_the_memory_of_an_encoder_is_relayed_through_all_stages_that_follow() -> None:
    source = load(build(FAMILIES[3]))
    wiring = record(source.model, source.sites, source.task.example, source.result)
    layers = [site.layer for site in wiring.sites]
    stage = {layer: min(3, i // 2) for i, layer in enumerate(layers)}
    memory = Port(layers.index("encoder.norm"), 0)
    first, second, third = wiring.boundaries(stage, 4)
    assert memory not in first
    assert memory in second
    assert memory in third


class Loose(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x) * self.scale)


def test_a_parameter_outside_of_layers_is_refused_by_name() -> None:
    with pytest.raises(Inexpressible, match="scale is used outside"):
        record(Loose(), {"first": "a", "second": "b"}, lambda n: {"x": torch.zeros(n, 4)}, lambda out: (out,))


def unweighed(model: Loose) -> Loose:
    """With a constant where the loose parameter was: that one is refused, frozen or not."""
    value = model.scale.detach()
    del model.scale
    model.register_buffer("scale", value)
    return model


def test_a_layer_that_is_not_called_is_refused() -> None:
    model = Loose()
    model.third = nn.Linear(4, 4)
    sites = {"first": "a", "second": "b", "third": "c", "": "d"}
    del sites[""]
    unweighed(model)
    with pytest.raises(Inexpressible, match="does not call third"):
        record(model, sites, lambda n: {"x": torch.zeros(n, 4)}, lambda out: (out,))


def test_work_between_layers_is_noticed() -> None:
    model = unweighed(Loose())
    wiring = record(model, {"first": "a", "second": "b"}, lambda n: {"x": torch.zeros(n, 4)}, lambda out: (out,))
    assert wiring.glue
    assert wiring.sites[1].inputs[0].ports == (Port(0, 0),)


def test_initial_values_depend_on_seed_and_name_alone() -> None:
    graph = build(FAMILIES[0])
    one, same, other = (fill_all(load(graph).model, seed) for seed in (0, 0, 1))
    for (name, a), b, c in zip(one.named_parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.ndim == 1 or not torch.equal(a, c), name


def test_tied_parameters_stay_tied() -> None:
    model = fill_all(load(build(FAMILIES[3])).model, 0)
    names = [name for name, first in aliases(model).items() if first == "encoder.embedding.tokens.weight"]
    assert names == ["encoder.embedding.tokens.weight", "decoder.embedding.tokens.weight", "head.lm_head.weight"]


def test_parameters_are_built_on_meta_and_buffers_are_not() -> None:
    with parameters_on_meta():
        norm = nn.BatchNorm1d(3)
    assert norm.weight.is_meta
    assert not norm.running_mean.is_meta
    assert not nn.Linear(2, 2).weight.is_meta
