"""Matrix products on tensor cores: dimensions that are no multiple of 16 bytes take slower kernels."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uniap_cost_analytic.constants import constants_of
from uniap_cost_analytic.kernels import Cut, Engine, active, alignment, engine, matmul_s, work
from uniap_cost_analytic.vocabulary import padded

from uniap_core import cluster as clusters
from uniap_core.api import Training
from uniap_zoo.gpt import gpt
from uniap_zoo.mixtral import mixtral

ENGINE = Engine(250e12, 250e12, 312e12, 1.5e12, 4e-6, 108, 2, False, 8)


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_aligned_dimensions_lose_nothing_and_odd_ones_most(inner, outer):
    assert alignment(8 * inner, 8 * outer, 8) == 1.0
    assert alignment(8 * inner, 2 * outer + 1, 8) == alignment(2 * outer + 1, 8 * inner, 8) == 0.4
    assert alignment(8 * inner, 8 * outer + 2, 8) == 0.6
    assert alignment(8 * inner, 8 * outer + 4, 8) == 0.8
    assert alignment(inner, outer, 1) == 1.0  # fp32 runs outside tensor cores


def test_the_unpadded_vocabulary_of_gpt2_costs_more_than_a_larger_padded_one():
    assert matmul_s(8192, 2048, 50257, 1, 250e12, ENGINE) > 1.5 * matmul_s(8192, 2048, 50304, 1, 250e12, ENGINE)


@pytest.mark.parametrize("system", ["Megatron-LM", "NeMo Framework 24.07", "Megatron-DeepSpeed"])
def test_systems_that_pad_are_priced_padded(system):
    from uniap_core.estimate import parse

    row = {"gpu": "A100", "num_gpus": "8", "gpus_per_node": "8", "model": "GPT", "layers": "4", "hidden": "1024"}
    row |= {"heads": "16", "vocab": "50257", "seq": "1024", "global_batch": "16", "tp": "2", "pp": "1", "dp": "4"}
    for vocab in ("50257", ""):
        plan = parse(row | {"system": system, "vocab": vocab}, [])
        multiple = plan.candidate.training.vocabulary_multiple
        embedding, head = (padded(plan.graph.layers[i].operators, 2, multiple) for i in (0, -1))
        assert embedding[0].inner == head[1].outer == head[2].inner == head[2].saved[0].width == 50432
        assert embedding[0].parameters == head[1].parameters == 50432 * 1024
        assert plan.graph.architecture["vocab"] == 50257
    assert parse(row | {"system": "HF Transformers"}, []).candidate.training.vocabulary_multiple == 1


@pytest.mark.parametrize(
    ("kind", "hidden", "heads", "samples", "forward_ms", "backward_ms"),
    [
        ("A100-40G", 7168, 56, 1, 145.1, 296.1),
        ("V100-16G", 2560, 32, 1, 27.5, 59.3),
        ("V100-16G", 2560, 32, 4, 116.5, 240.2),
    ],
)
def test_fp32_layers_take_what_was_measured(kind, hidden, heads, samples, forward_ms, backward_ms):
    """One block of 2048 positions, TF32 off (eth-easl/sailor@cf2c8e3cc5, profiles of OPT-30 and GPT-Neo-2.7)."""
    device, training = (
        clusters.kinds()[kind].device,
        Training(global_batch=samples, precision="fp32", flash_attention=False),
    )
    constants = constants_of(device.generation)
    graph = gpt(layers=1, hidden=hidden, heads=heads, vocab=1000, sequence=2048)
    block = next(layer for layer in graph.layers if layer.name == "layers.0")
    cut, fp32 = Cut(samples, 2048, 1, 1, 1, False), engine(device, training, constants)
    spent = [work(op, cut, fp32, training, constants) for op in block.operators if active(op, training)]
    assert sum(w.forward_s for w in spent) == pytest.approx(forward_ms * 1e-3, rel=0.12)
    assert sum(w.backward_s for w in spent) == pytest.approx(backward_ms * 1e-3, rel=0.12)


@pytest.mark.parametrize(
    ("kind", "version", "forward_tflops"),
    [("A100-80G", 1, (90, 130)), ("A100-80G", 2, (170, 210)), ("H100-80G", 2, (280, 360)), ("H100-80G", 3, (400, 560))],
)
def test_fused_attention_reaches_what_its_authors_measured(kind, version, forward_tflops):
    """Causal, heads of 128, 8192 positions (Dao 2023, arXiv 2307.08691, figures 5 and 7; Shah et al. 2024)."""
    device = clusters.kinds()[kind].device
    training = Training(global_batch=2, flash_version=version)
    constants = constants_of(device.generation)
    op = next(op for op in gpt(layers=1, hidden=4096, heads=32).layers[1].operators if op.kind == "attention")
    spent = work(op, Cut(2, 8192, 1, 1, 1, False), engine(device, training, constants), training, constants)
    low, high = forward_tflops
    assert low < 2 * 4 * 8192**2 * 4096 * 0.5 / spent.forward_s / 1e12 < high


@pytest.mark.parametrize(("fused", "faster"), [(True, (7.5, 8.5)), (False, (1, 1))])
def test_a_window_saves_work_where_the_kernel_knows_of_it(fused, faster):
    device, training = clusters.kinds()["H100-80G"].device, Training(global_batch=2, flash_attention=fused)
    constants = constants_of(device.generation)
    op = next(op for op in gpt(layers=1, hidden=4096, heads=32).layers[1].operators if op.kind == "attention")
    # A window of w sees w - w^2 / 2s keys on average of the s / 2 without it.
    whole, near = (
        work(
            msgspec.structs.replace(op, window=window),
            Cut(2, 32768, 1, 1, 1, False),
            engine(device, training, constants),
            training,
            constants,
        )
        for window in (0, 2114)
    )
    low, high = faster
    assert low <= whole.forward_s / near.forward_s <= high
    assert low <= whole.backward_s / near.backward_s <= high


def test_the_last_part_of_a_vocabulary_counts_if_it_is_the_slower_one():
    """30522 over 8 ranks: seven parts of 3816, a multiple of 8, and one of 3810."""
    device, training = clusters.kinds()["A100-80G"].device, Training(global_batch=8, precision="bf16")
    constants = constants_of(device.generation)
    a100 = engine(device, training, constants)

    def head(vocab):
        graph = gpt(layers=1, hidden=1024, heads=16, vocab=vocab, sequence=512)
        op = next(op for op in graph.layers[-1].operators if op.kind == "gemm")
        return work(op, Cut(8, 512, 8, 1, 1, False), a100, training, constants).forward_s

    assert head(30522) > 1.3 * head(30528)


def test_grouped_products_are_issued_expert_by_expert():
    """Fewer experts on a device, fewer kernels for its host; their work does not shrink so."""
    device, training = clusters.kinds()["H100-80G"].device, Training(global_batch=8)
    constants = constants_of(device.generation)
    graph = mixtral(layers=1, hidden=1024, heads=8, ffn=512, experts=64, top_k=4)
    op = next(op for op in graph.layers[1].operators if op.kind == "grouped_gemm")
    spent = [
        work(op, Cut(8, 1024, 1, 1, ep, False), engine(device, training, constants), training, constants)
        for ep in (1, 8, 64)
    ]
    assert spent[0].kernels - spent[1].kernels == 64 - 8
    assert spent[1].backward_kernels - spent[2].backward_kernels == 2 * (8 - 1)
