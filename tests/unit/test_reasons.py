"""Why there is no plan: by how many bytes, or for which reasons in how many candidates."""

from __future__ import annotations

import numpy as np
import pytest

from uniap_core.diagnose import shortage
from uniap_core.errors import BadValue, Infeasible, UsageError
from uniap_core.search import make, sweep
from uniap_core.testing.problems import Limits, random_problem


def refused(*arguments, **options) -> Exception:
    with pytest.raises((Infeasible, BadValue, UsageError)) as caught:
        sweep(make(*arguments, **options))
    return caught.value


def test_one_stage_that_is_too_small_is_a_certain_shortage_whatever_the_graph():
    limits = Limits(layers=(5, 5), stages=(1, 1))
    seen = 0
    for seed in range(20):
        problem = random_problem(np.random.default_rng(seed), limits, shape="skip", memory="none")
        short = shortage(problem)
        if short is not None:
            seen += 1
            assert short.certain
    assert seen > 0


def test_a_model_with_branches_on_a_device_that_is_too_small_says_by_how_much():
    error = refused("t5-large", "1xRTX2080", 4)
    assert "stage 0 of 1 needs at least" in error.cause
    assert "GiB short" in error.cause
    assert "lower bound" not in error.cause


def test_what_is_impossible_lists_reasons_with_how_many_candidates_each_rules_out():
    error = refused("llama:layers=3,hidden=128,heads=4,kv_heads=2,ffn=300,vocab=512", "7xA100-80G", 5)
    assert "the micro-batch of 5 does not divide by dp 7 (1 of 2 candidates)" in error.cause
    assert "does not divide by tp 7 (2 of 2 candidates)" in error.cause
    assert "pp1-c1" not in error.cause


def test_key_heads_are_named_where_they_alone_do_not_divide():
    model = "llama:layers=2,hidden=192,heads=12,kv_heads=3,ffn=256,vocab=512,seq=64"
    error = refused(model, "4xA100-80G", 4, pins=["tp=4"])
    assert "3 key heads" in error.cause
    assert "tp 4" in error.cause


def test_replicas_are_considered_where_they_can_pay():
    assert "would span nodes" in refused("gpt2", "4xA100-80G", 4, pins=["replicate=2"]).cause


@pytest.mark.parametrize("pin", ["cp=2", "ep=2"])
def test_what_is_not_searched_is_said_so(pin):
    assert "parallelism is not searched" in refused("gpt2", "4xA100-80G", 4, pins=[pin]).cause


def test_tensor_parallelism_over_nodes_of_one_device():
    error = refused("gpt2", "2x1xA100-80G", 4, pins=["tp=2"])
    assert "tensor parallelism stays inside a node, and the nodes of 2x1xA100-80G have 1 device" in error.cause
