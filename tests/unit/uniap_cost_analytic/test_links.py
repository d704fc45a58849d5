"""Groups and collectives: which links a group spans, and laws of alpha-beta times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uniap_cost_analytic.constants import Constants, constants_of, shipped
from uniap_cost_analytic.kernels import Engine, matmul_s
from uniap_cost_analytic.links import _enumerated, collective_s, stage_group

from uniap_core import cluster as clusters
from uniap_core.axes import Span
from uniap_core.errors import BadFile

C, A100 = Constants(), constants_of("ampere")
TWO = clusters.load("2x8xH100-80G")
OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")


@pytest.mark.parametrize(("stride", "size"), [(1, 2), (1, 8), (2, 4), (1, 16), (2, 8), (8, 2), (4, 4)])
def test_aligned_groups_are_those_found_by_enumeration(stride: int, size: int) -> None:
    span = Span(size, stride)
    assert stage_group(TWO, 0, 16, span, C) == _enumerated(TWO, 0, 16, span, C)


def test_a_group_inside_a_node_sees_its_link_and_one_across_shares_the_nics() -> None:
    inside = stage_group(TWO, 0, 16, Span(8, 1), C)
    across = stage_group(TWO, 0, 16, Span(2, 8), C)
    whole = stage_group(TWO, 0, 16, Span(16, 1), C)
    assert (inside.nodes, across.nodes, whole.nodes) == (1, 2, 2)
    node = TWO.inter.bandwidth_Bps * C.inter_share
    assert across.bandwidth_Bps == pytest.approx(node / 8)
    assert across.bandwidth_Bps < whole.bandwidth_Bps <= node


def test_direct_links_serve_a_pair_with_a_share() -> None:
    v100 = clusters.load("8xV100-32G")
    pair, quad, all_eight = (stage_group(v100, 0, 8, Span(n, 1), C).bandwidth_Bps for n in (2, 4, 8))
    assert pair < quad < all_eight
    switch = clusters.load("8xA100-80G")
    four, eight = (stage_group(switch, 0, 8, Span(n, 1), C).bandwidth_Bps for n in (4, 8))
    assert four == eight


@pytest.mark.parametrize(
    ("ranks", "mib", "measured_us"),
    [
        (2, 4, 60),
        (2, 16, 129),
        (2, 256, 1454),
        (4, 16, 178),
        (4, 256, 1928),
        (8, 4, 94),
        (8, 16, 231),
        (8, 256, 2158),
    ],
)
def test_all_reduces_over_a_switch_take_what_was_measured(ranks, mib, measured_us) -> None:
    """A100, NVSwitch (VIA-Research/vTrain@f8dda8473a, trace/a100)."""
    group = stage_group(clusters.load("8xA100-80G"), 0, 8, Span(ranks, 1), A100)
    assert collective_s("all_reduce", mib * 2**20, group, A100) == pytest.approx(measured_us * 1e-6, rel=0.2)


@given(
    st.sampled_from(OPERATIONS),
    st.floats(1, 1e10),
    st.floats(1, 10),
    st.sampled_from([Span(2, 1), Span(8, 1), Span(2, 8), Span(16, 1)]),
)
def test_more_bytes_never_take_less_time(operation: str, size: float, factor: float, span: Span) -> None:
    group = stage_group(TWO, 0, 16, span, C)
    assert 0 < collective_s(operation, size, group, C) <= collective_s(operation, size * factor, group, C)


@given(st.floats(1e7, 1e10), st.sampled_from([2, 4, 8]))
def test_a_large_all_reduce_is_no_cheaper_than_its_halves(size: float, ranks: int) -> None:
    """Small ones are: a tree has fewer hops than the ring of a reduce-scatter."""
    group = stage_group(TWO, 0, 16, Span(ranks, 1), C)
    whole = collective_s("all_reduce", size, group, C)
    assert whole >= collective_s("reduce_scatter", size, group, C)


def test_published_all_reduces_are_met_within_a_third() -> None:
    """VIA-Research/vTrain@f8dda8473a: trace/a100/AR_GPU*_LUT, out of place, microseconds."""
    measured = {(2, 33554432): 229.0, (4, 33554432): 281.7, (8, 33554432): 355.7, (8, 268435456): 2158.0}
    cluster, constants = clusters.load("8xA100-80G"), constants_of("ampere")
    for (ranks, size), microseconds in measured.items():
        found = collective_s("all_reduce", size, stage_group(cluster, 0, 8, Span(ranks, 1), constants), constants)
        assert found * 1e6 == pytest.approx(microseconds, rel=1 / 3)


ENGINE = Engine(250e12, 250e12, 312e12, 1.5e12, 4e-6, 108, 2, False, 8)
SIZES = st.integers(1, 20000)


@given(SIZES, SIZES, SIZES, st.integers(1, 8))
def test_products_are_no_faster_than_the_roofs(rows: int, inner: int, outer: int, count: int) -> None:
    seconds = matmul_s(rows, inner, outer, count, ENGINE.flops, ENGINE)
    assert seconds >= 2.0 * rows * inner * outer * count / ENGINE.flops
    assert seconds >= (rows * inner + inner * outer + rows * outer) * count * 2 / ENGINE.memory_Bps
    assert seconds <= matmul_s(rows + 256, inner, outer, count, ENGINE.flops, ENGINE) * (1 + 1e-9)


def test_shipped_constants_are_physical() -> None:
    for constants in shipped().values():
        for name in ("matmul_share", "attention_share", "memory_share", "link_share", "inter_share", "overlap"):
            assert 0 < getattr(constants, name) <= 1
        assert constants.contention >= 1
    assert constants_of("unheard of") == shipped()["default"]


@pytest.mark.parametrize("text", ["[ampere]\nmatmul_share = 'fast'", "[ampere]\nspeed = 1", "not toml"])
def test_a_bad_file_of_constants_is_refused(text: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "constants.toml"
    path.write_text(text)
    monkeypatch.setenv("UNIAP_CONSTANTS", str(path))
    with pytest.raises(BadFile, match=r"constants\.toml"):
        constants_of("ampere")
    monkeypatch.setenv("UNIAP_CONSTANTS", str(tmp_path / "absent.toml"))
    with pytest.raises(BadFile, match="UNIAP_CONSTANTS"):
        constants_of("ampere")
