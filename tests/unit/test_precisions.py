"""Precision recipes: which devices have them, and what each does to time and memory."""

from __future__ import annotations

import pytest
from uniap_cost_analytic.memory import recipe

import uniap
from uniap_core.cluster import preset
from uniap_core.costs import Training
from uniap_core.devices import kinds
from uniap_core.errors import BadValue
from uniap_core.precisions import FIGURES, PRECISIONS, precision

MODEL = "llama:layers=4,hidden=4096,heads=32,kv_heads=8,ffn=14336,vocab=32000,seq=2048"
ONE = ("pp=1", "tp=1", "c=1", "sharding=none", "recompute=none")


@pytest.mark.parametrize(
    ("kind", "has"),
    [
        ("V100-32G", {"fp32", "fp16"}),
        ("A100-80G", {"fp32", "tf32", "fp16", "bf16"}),
        ("L40S", set(PRECISIONS) - {"fp8-blockwise", "mxfp8", "nvfp4"}),
        ("H100-80G", set(PRECISIONS) - {"mxfp8", "nvfp4"}),
        ("MI300X", set(PRECISIONS) - {"fp8-blockwise", "mxfp8", "nvfp4"}),
        ("RTX5090", set(PRECISIONS) - {"mxfp8", "nvfp4"}),
        *((name, set(PRECISIONS)) for name in ("B200", "B300", "GB200", "GB300")),
    ],
)
def test_devices_have_the_recipes_that_their_units_and_kernels_have(kind, has):
    device = kinds()[kind].device
    assert {name for name in PRECISIONS if device.runs(name)} == has
    for name in set(PRECISIONS) - has:
        with pytest.raises(BadValue, match=f"{kind} has no .*"):
            device.peak(name)
        with pytest.raises(BadValue):
            uniap.plan(MODEL, f"1x{kind}", 1, precision=name)


def test_every_figure_of_the_catalogue_is_of_some_recipe():
    used = {known.figure for known in PRECISIONS.values()}
    assert used == set(FIGURES)
    for kind in kinds().values():
        assert set(kind.device.peak_flops) <= used
        # Narrower units are never slower, and blocks of eight bits have those of eight bits.
        ladder = [kind.device.peak_flops[p] for p in ("bf16", "fp8", "mxfp8", "nvfp4") if p in kind.device.peak_flops]
        assert ladder == sorted(ladder), kind.device.name


def test_a_recipe_that_nobody_has_is_refused():
    for ask in (lambda: precision("fp6"), lambda: Training(global_batch=1, precision="fp6", states="bf16")):
        with pytest.raises(BadValue, match="no precision 'fp6'"):
            ask()


def test_narrower_products_take_less_time_and_keep_less():
    found = {
        name: uniap.plan(MODEL, "1xB200", 8, precision=name, pins=ONE).plan.stages[0]
        for name in ("bf16", "fp8", "fp8-delayed", "fp8-tensorwise", "fp8-blockwise", "mxfp8", "nvfp4")
    }
    bf16 = found["bf16"]
    for name, stage in found.items():
        known = precision(name)
        assert stage.time_s <= bf16.time_s
        # The 16-bit weights stay, and the narrow copies of all linear layers but the output layer lie beside them.
        narrow = 4 * (4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14336) * known.weight_bytes
        assert stage.memory_parts_bytes["parameters"] - bf16.memory_parts_bytes["parameters"] == pytest.approx(narrow)
        # Of each block the inputs behind its norms are kept as they were cast.
        saved = 4 * 8 * 2048 * 2 * 4096 * (2 - known.input_bytes)
        kept = bf16.memory_parts_bytes["activations"] - stage.memory_parts_bytes["activations"]
        assert kept == pytest.approx(saved)
    assert found["nvfp4"].time_s < found["mxfp8"].time_s < bf16.time_s
    assert found["mxfp8"].time_s >= found["fp8-delayed"].time_s  # as fast, with constants of blocks to write


def test_under_zero3_narrow_copies_are_of_what_is_gathered():
    pins = ("pp=1", "tp=1", "c=1", "sharding=zero3", "recompute=none")
    plain, narrow = (
        uniap.plan(MODEL, "2xH100-80G", 8, precision=name, pins=pins).plan.stages[0] for name in ("fp8", "fp8-delayed")
    )
    assert narrow.memory_parts_bytes["parameters"] == plain.memory_parts_bytes["parameters"]
    assert narrow.memory_parts_bytes["reserved"] > plain.memory_parts_bytes["reserved"]


@pytest.mark.parametrize("name", [name for name, known in PRECISIONS.items() if known.narrow])
def test_states_are_those_of_bf16(name):
    assert recipe(Training(global_batch=1, precision=name)) == recipe(Training(global_batch=1))
    assert preset("8xB200").best_precision == "bf16"
