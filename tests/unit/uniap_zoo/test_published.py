"""Published models by the names that sources write, and graphs from what tables say of them."""

from __future__ import annotations

import pytest

from tests.unit.uniap_zoo.known_sizes import KNOWN
from uniap_core.graph import ModelGraph
from uniap_core.models import Hyperparameters
from uniap_zoo.catalogue import build
from uniap_zoo.deepseek import deepseek
from uniap_zoo.published import published
from uniap_zoo.tabulated import graph_of


@pytest.mark.parametrize("name", KNOWN)
def test_columns_describe_a_model_of_the_size_of_its_own_graph(name: str) -> None:
    """Biases, norms of heads, and positions beside: columns do not say them."""

    def held(graph: ModelGraph) -> int:
        return sum(op.parameters for layer in graph.layers for op in layer.operators)

    graph = graph_of(name, KNOWN[name]._replace(sequence=512), [])
    close = 0.15 if name == "opt-350m" else 0.03  # its embedding is half as wide as its layers
    assert held(graph) == pytest.approx(held(build(name)), rel=close)


@pytest.mark.parametrize(
    ("name", "billions"), [("mixtral-8x22b", 140.6), ("dbrx", 131.6), ("grok-1", 316.5), ("glm-4.5-air", 106.8)]
)
def test_known_mixtures_have_their_published_size(name: str, billions: float) -> None:
    graph = graph_of(name, KNOWN[name]._replace(sequence=2048), [])
    assert graph.parameters / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("meta-llama/Llama-3.1-8B", "llama3.1-8b"),
        ("Llama3.1-70B", "llama3.1-70b"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"),
        ("Qwen3 30B A3B", "qwen3-30b-a3b"),
        ("LLAMA2-70B", "llama2-70b"),
        ("qwen/qwen3-30b-a3b-instruct-2507", "qwen3-30b-a3b"),
        ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16", "nemotron3-super-120b-a12b"),
        ("zai-org/GLM-5.1", "glm-5"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-v3"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "r1-distill-qwen-7b"),
        ("llama3_70B.yaml", "llama3-70b"),
        ("GPT2-52B", None),
        ("GPT", None),
    ],
)
def test_names_as_sources_write_them(written: str, known: str | None) -> None:
    found = published(written)
    assert (found and found[0]) == known


def test_heads_need_not_fill_the_hidden_size() -> None:
    _, sizes = published("Qwen3-32B")
    graph = graph_of("Qwen3-32B", sizes._replace(sequence=4096), [])
    attention = next(op for op in graph.layers[1].operators if op.kind == "attention")
    assert attention.heads * attention.inner == 8192


def test_a_zoo_model_is_known_by_its_shape() -> None:
    found = published("Llama-3-8B-Instruct")
    assert found is not None
    assert found[1][:6] == (32, 4096, 32, 8, 14336, 128256)


@pytest.mark.parametrize(
    ("version", "shape", "published"),
    [
        ("v2", Hyperparameters(60, 5120, 128, 128, 12288, 102400, 4096), 235.7e9),
        ("v3", Hyperparameters(61, 7168, 128, 128, 18432, 129280, 4096), 671.0e9),
    ],
)
def test_deepseek_has_its_published_size(version: str, shape: Hyperparameters, published: float) -> None:
    assert deepseek("deepseek", version, shape).parameters == pytest.approx(published, rel=1e-3)
