"""What schedules place, weigh and hold in flight."""

from __future__ import annotations

import pytest

from uniap_core import schedules
from uniap_core.errors import BadValue, UnknownName
from uniap_core.pipeline import Pipeline
from uniap_core.tables import Weights


def flights(schedule, ranks, micro_batches):
    return [moments[0][0] for moments in Pipeline.of(schedule, ranks).in_flight(micro_batches)]


def test_gpipe_keeps_all():
    assert flights("gpipe", 4, 8) == [8, 8, 8, 8]


def test_1f1b_keeps_what_the_warm_up_needs():
    assert flights("1f1b", 4, 8) == [4, 3, 2, 1]
    assert flights("1f1b", 4, 2) == [2, 2, 2, 1]


def test_plain_pipelines_fill_once():
    assert Pipeline.of("1f1b", 4).weights(8) == Pipeline.of("gpipe", 4).weights(8) == Weights(1, 1, 7)


def test_an_unknown_schedule_lists_the_known():
    with pytest.raises(UnknownName) as caught:
        Pipeline.of("zigzag", 1)
    assert "1f1b" in caught.value.fix


@pytest.mark.parametrize(("name", "ranks", "chunks"), [("1f1b", 4, 2), ("interleaved", 4, 1), ("interleaved", 1, 2)])
def test_a_placement_that_is_none_says_why(name, ranks, chunks):
    with pytest.raises(BadValue, match="chunk"):
        Pipeline.of(name, ranks, chunks)


def test_interleaving_shortens_the_ramp_and_holds_what_megatron_publishes():
    shape = Pipeline.of("interleaved", 4, 2)
    assert shape.chunks == (0, 1, 2, 3, 0, 1, 2, 3)
    assert shape.weights(8) == Weights(0.5, 1, 7.5)
    for c in (8, 16, 64):
        peaks = [max(sum(moment) for moment in moments) for moments in shape.in_flight(c)]
        assert peaks == [2 * (4 - i - 1) + (2 - 1) * 4 + 1 for i in range(4)]  # chunks, of 1/v each


def test_every_schedule_counts_one_number_per_chunk():
    for name in schedules.names():
        placed = schedules.find(name).place(4, 1)
        shape = Pipeline.of(name, 4, 2 if isinstance(placed, str) else 1)
        for i, moments in enumerate(shape.in_flight(8)):
            assert moments
            assert {len(moment) for moment in moments} == {shape.chunks.count(i)}


def test_ranks_share_devices_evenly():
    assert Pipeline.of("1f1b", 4).devices_per_rank(8) == 2
    with pytest.raises(BadValue, match="do not divide"):
        Pipeline.of("1f1b", 3).devices_per_rank(8)
    assert [list(Pipeline.of("1f1b", 3).block(i, 6)) for i in range(3)] == [[0, 1], [2, 3], [4, 5]]


def test_tensors_hop_between_neighbours_and_where_chunks_say_so_back_to_the_first():
    assert Pipeline.of("1f1b", 1).hops == ()
    assert Pipeline.of("1f1b", 3).hops == ((0, 1), (1, 2))
    assert Pipeline.of("interleaved", 3, 4).hops == ((0, 1), (1, 2), (2, 0))
    assert Pipeline("vee", 3, (0, 1, 2, 2, 1, 0)).hops == ((0, 1), (1, 2), (2, 1), (1, 0))


def test_a_pipeline_of_a_billion_ranks_is_refused_before_it_is_laid_out():
    with pytest.raises(BadValue, match="too many"):
        Pipeline.of("1f1b", 10**9)
