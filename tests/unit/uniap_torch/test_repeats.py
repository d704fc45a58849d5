"""What is alike runs once, loops become one round, and the graph is the same as if everything had run."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from uniap_torch import repeats, sources  # noqa: E402
from uniap_torch.loops import fold  # noqa: E402
from uniap_torch.recording import record  # noqa: E402
from uniap_torch.repeats import Repeats, candidates, like  # noqa: E402
from uniap_torch.tape import Packed, Ran, assemble  # noqa: E402
from uniap_torch.trace import graph, trace  # noqa: E402
from uniap_torch.watch import TooLong, Watch  # noqa: E402

from tests.hf_config import write_config  # noqa: E402
from tests.unit.uniap_torch import traced_models  # noqa: E402
from uniap_core import artifact  # noqa: E402

STATES = {"num_experts": 4, "num_experts_per_tok": 2}
KINDS = {
    "llama": {},
    "qwen3": {"head_dim": 8},
    "mixtral": {"output_router_logits": True},
    "gemma3_text": {"head_dim": 8, "sliding_window": 16, "sliding_window_pattern": 3},
    "jamba": STATES
    | {"mamba_d_state": 4, "mamba_dt_rank": 4, "use_mamba_kernels": False}
    | {"attn_layer_period": 4, "attn_layer_offset": 2},
    "qwen3_next": STATES
    | {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
    | {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_is_the_same_whether_alike_blocks_run_or_not(kind, tmp_path, monkeypatch):
    path = write_config(tmp_path, kind, num_hidden_layers=8, max_position_embeddings=4096, **KINDS[kind])
    spared = []
    again = repeats._Call.again
    monkeypatch.setattr(repeats._Call, "again", lambda *given: spared.append(given) or again(*given))
    source = sources.load(f"hf:{path}", 32)
    once = artifact.pretty(graph(source))
    assert spared
    assert once == artifact.pretty(graph(sources.load(f"hf:{path}", 32), once=False))


class Step(nn.Module):
    def __init__(self, number, twice=False, reads=False):
        super().__init__()
        self.inner, self.layer_idx, self.twice, self.reads = nn.Linear(8, 8), number, twice, reads

    def forward(self, x):
        x = self.inner(x).relu()
        return x.sin() if self.twice or (self.reads and self.layer_idx % 2) else x


class Chain(nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.layers = nn.ModuleList(steps)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def ops(model, *, once):
    made = record(model, ((torch.zeros(2, 4, 8, device="meta"),), {}), 2, 4, Repeats(model) if once else None)
    return [(r.op, r.path, r.producers, r.shape, r.moved) for r in made.records]


def chain(**more):
    with torch.device("meta"):
        return Chain([Step(n, **{key: value(n) for key, value in more.items()}) for n in range(6)])


def test_blocks_of_other_settings_are_not_alike():
    model = chain(twice=lambda n: n > 3)
    assert set(Repeats(model).groups.values()) == {"layers.0", "layers.0.inner"}
    assert "layers.4" not in Repeats(model).groups
    assert ops(model, once=True) == ops(model, once=False)


def test_a_block_that_reads_its_number_runs_itself():
    model = chain(reads=lambda n: True)
    seen = ops(model, once=True)
    assert seen == ops(model, once=False)
    assert [op for op, *_ in seen].count("sin") == 3
    assert [layer.layer_idx for layer in model.layers] == list(range(6))


def test_hooks_and_tensors_of_its_own_make_a_block_like_no_other():
    model = chain()
    assert like(model.layers[0]) == like(model.layers[1])
    model.layers[0].register_forward_hook(lambda *_: None)
    assert like(model.layers[0]) is None
    model.layers[1].held = torch.zeros(1)
    assert like(model.layers[1]) is None
    assert "layers.0" in set(candidates(model))


def rounds(count):
    """A scan: state = a[i] * state + b[i]; out = state @ c."""
    events, key, state = [], 100, 1
    for _ in range(count):
        multiplied, added, out = key, key + 1, key + 2
        key += 3
        if state != 1:
            events.append(Packed(state, 8, torch.float32))
        events += [
            Ran("mul", "m", (2, state), (multiplied,), (), ((4,), (4,)), (4,), 48, True),
            Ran("add", "m", (multiplied, 3), (added,), (), ((4,), (4,)), (4,), 48, True),
            Packed(added, 16, torch.float32),
            Ran("bmm", "m", (added, 9), (out,), (9,), ((2, 2), (2, 2)), (2, 2), 48, True),
        ]
        state = added
    outs = tuple(range(102, key, 3))
    return [*events, Ran("cat", "m", outs, (7,), (), ((2, 2),) * count, (count, 2), count, True)]


@pytest.mark.parametrize("count", [8, 20])
def test_a_loop_becomes_one_round_that_ran_so_often(count):
    whole, whole_kept = assemble(rounds(count), {9: ""})
    folded, renamed = fold(rounds(count))
    records, kept = assemble(folded, {9: ""})
    assert [r.op for r in records] == ["mul", "add", "bmm", "cat"]
    assert [r.times for r in records] == [count, count, count, 1]
    assert sum(r.moved for r in records) == sum(r.moved for r in whole)
    assert sum(k.nbytes for k in kept.values()) == sum(k.nbytes for k in whole_kept.values())
    assert records[2].index in records[3].producers
    assert renamed


def test_a_few_rounds_are_left_as_they_are():
    assert fold(rounds(5)) == (rounds(5), {})


def test_a_loop_over_positions_holds_at_other_lengths():
    short, long = (trace(f"{traced_models.__name__}:scan", n) for n in (192, 256))
    assert short.holds_at(256)
    assert len(short.layers[-1].operators) == len(long.layers[-1].operators)
    for one, other in zip(short.layers, long.layers, strict=True):
        assert one.flops(2, 256) == pytest.approx(other.flops(2, 256))
        assert one.saved_bytes(2, 256) == pytest.approx(other.saved_bytes(2, 256), rel=2e-3)


def test_time_is_limited_and_the_module_that_loops_is_named():
    with pytest.raises(TooLong, match=r"took more than 0 s and was at run 1 of 7") as caught:
        graph(sources.load(f"{traced_models.__name__}:scan", 64), limit_s=0.0)
    assert "--time-limit" in caught.value.fix


def test_progress_is_told_after_a_while_and_not_too_often(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("uniap_torch.watch.time.monotonic", lambda: now[0])
    told = []
    watch = Watch(told.append, None, 5)
    watch.next()
    for _ in range(300):
        now[0] += 0.01
        watch.tick("layers.3")
    assert 3 <= len(told) <= 5
    assert told[0].t_s > 1
    assert told[0].label == "run 1 of 5, layers.3"
