"""Parameters without ``requires_grad`` are known as such in a traced graph, and profiles do without their gradients."""

from __future__ import annotations

import msgspec
import pytest

torch = pytest.importorskip("torch")

from uniap_torch.replay import Replay  # noqa: E402
from uniap_torch.trace import trace  # noqa: E402

from tests.unit.uniap_torch import traced_models  # noqa: E402


def traced(name):
    return trace(f"{traced_models.__name__}:{name}", 64)


@pytest.fixture(scope="module")
def adapted():
    return traced("lora")


def test_adapters_are_trained_and_what_lies_beside_them_is_not(adapted):
    model, _ = traced_models.lora()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert 0 < trained < adapted.parameters
    assert adapted.trained == trained
    block = next(layer for layer in adapted.layers if layer.name == "layers.1")
    shares = {op.name: (op.parameters, op.frozen) for op in block.operators if op.parameters}
    assert {name for name, (size, frozen) in shares.items() if frozen < size} == {"qkv.down", "qkv.up"}
    assert all(frozen in (0, size) for size, frozen in shares.values())


def test_no_gradient_runs_back_before_the_first_that_is_trained(adapted):
    assert adapted.without_backward == {"embedding"}
    tuned = traced("tuned")
    assert tuned.without_backward == {"embedding", "layers.0", "layers.1"}


def test_a_tied_weight_is_frozen_in_both_places(adapted):
    head = adapted.layers[-1]
    tied = [op for op in head.operators if op.tied]
    assert [(op.frozen, op.parameters) for op in tied] == [(6400, 6400)]


def test_a_model_that_trains_everything_has_nothing_frozen():
    graph = traced("gpt")
    assert graph.trained == graph.parameters
    assert not graph.without_backward


def test_a_replay_takes_no_gradient_of_a_frozen_weight(adapted):
    for layer in adapted.layers:
        replay = Replay(layer, 1, 1, 64, torch.device("cpu"), torch.float32)
        whole = type(layer)(layer.name, layer.kind, tuple(_unfrozen(op) for op in layer.operators))
        other = Replay(whole, 1, 1, 64, torch.device("cpu"), torch.float32)
        frozen = [op for op in layer.operators if op.kind in ("gemm", "embedding") and not op.weight_trained]
        assert len(other.leaves) - len(replay.leaves) == len(frozen)
        replay.backward(replay.forward())


def _unfrozen(op):
    return msgspec.structs.replace(op, frozen=0)
