"""Configurations that the zoo reads without torch, against the tracer and against transformers' own models."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest

from tests.unit.uniap_zoo.small_configs import COUNTED, LIKE_TRACED, small
from uniap_zoo import hub

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from uniap_torch.trace import trace  # noqa: E402

SEQUENCE = 64


def read(kind):
    graph = hub.graph_of(small(kind), kind, "", SEQUENCE, [])
    assert graph is not None
    return graph


@pytest.fixture(scope="module", params=LIKE_TRACED)
def pair(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "config.json"
    path.write_text(json.dumps(small(request.param)))
    return trace(f"hf:{path}", SEQUENCE), read(request.param)


def test_what_is_read_is_what_is_traced(pair):
    traced, graph = pair
    assert [layer.module for layer in graph.layers] == [layer.module for layer in traced.layers]
    assert graph.parameters == traced.parameters
    for mine, theirs in zip(graph.layers, traced.layers, strict=True):
        assert mine.own_parameters == theirs.own_parameters, mine.name
        assert mine.flops(3, SEQUENCE) == pytest.approx(theirs.flops(3, SEQUENCE), rel=0.01), mine.name
        for element_bytes in (2, 4):
            kept = theirs.saved_bytes(3, SEQUENCE, element_bytes)
            assert mine.saved_bytes(3, SEQUENCE, element_bytes) == pytest.approx(kept, rel=0.05), mine.name
    assert traced.architecture.items() <= graph.architecture.items()


def test_products_are_named_by_the_modules_that_tensor_parallelism_splits(pair):
    traced, graph = pair
    for mine, theirs in zip(graph.layers, traced.layers, strict=True):
        names = {op.name for op in mine.operators if op.kind == "gemm"}
        wanted = {op.name for op in theirs.operators if op.kind == "gemm"}
        assert names == wanted, mine.name


@pytest.mark.parametrize("kind", [*LIKE_TRACED, *COUNTED])
def test_parameters_are_those_of_transformers(kind):
    config = transformers.AutoConfig.for_model(**small(kind))
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    by_module: dict[str, int] = defaultdict(int)
    graph = read(kind)
    owners = {path: layer.name for layer in graph.layers for path in layer.module.split(",")}
    for name, parameter in model.named_parameters():
        owner = next((layer for path, layer in owners.items() if f"{name}.".startswith(f"{path}.")), "embedding")
        by_module[owner] += parameter.numel()
    assert graph.parameters == sum(p.numel() for p in model.parameters())
    assert by_module == {layer.name: n for layer in graph.layers if (n := layer.own_parameters)}
