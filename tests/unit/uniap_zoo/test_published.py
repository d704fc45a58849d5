"""Published models by the names that sources write, and graphs from what tables say of them."""

from __future__ import annotations

import re

import pytest

from uniap_core.models import Hyperparameters
from uniap_zoo.deepseek import deepseek
from uniap_zoo.published import KNOWN, published
from uniap_zoo.tabulated import graph_of

# Names that count without the embedding, count a tied one once, or say no size.
OTHERWISE = ("llama3.2", "qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen3-0.6b", "qwen3-1.7b", "gemma", "opt-350m")
OTHERWISE += ("bloom", "phi", "mixtral", "dbrx", "grok", "t5-base", "glm")


@pytest.mark.parametrize("name", [name for name in KNOWN if not name.startswith(OTHERWISE)])
def test_known_shapes_have_the_size_in_their_name(name: str) -> None:
    size = re.findall(r"(?<![a-z])(\d+(?:\.\d+)?)b", name)[0 if name != "olmoe-1b-7b" else 1]
    graph = graph_of(name, KNOWN[name]._replace(sequence=2048), [])
    total = sum(op.parameters for layer in graph.layers for op in layer.operators)
    assert total / 1e9 == pytest.approx(float(size), rel=0.13)


@pytest.mark.parametrize(
    ("name", "billions"), [("mixtral-8x22b", 140.6), ("dbrx", 131.6), ("grok-1", 316.5), ("glm-4.5-air", 106.8)]
)
def test_known_mixtures_have_their_published_size(name: str, billions: float) -> None:
    graph = graph_of(name, KNOWN[name]._replace(sequence=2048), [])
    assert graph.parameters / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("meta-llama/Llama-3.1-8B", "llama3-8b"),
        ("Llama3.1-70B", "llama3-70b"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"),
        ("Qwen3 30B A3B", "qwen3-30b-a3b"),
        ("LLAMA2-70B", "llama2-70b"),
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
