"""Against megatron-core itself: its rank generator, its layout parser, its configuration."""

import warnings
from itertools import accumulate

import pytest
from fsdp_plans import proposal
from uniap_megatron.arguments import layout, words
from uniap_megatron.ranks import layout as rank_layout

from tests.planned import planned
from uniap_core.testing import availability
from uniap_zoo import build

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def core():
    """The parts of megatron-core that need no GPU (its import takes seconds)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        availability.library("megatron.core", "megatron")
        import megatron.core.parallel_state as parallel_state
        import megatron.core.transformer as transformer
        from megatron.core.transformer import pipeline_parallel_layer_layout as layouts
    return parallel_state, transformer, layouts


CASES = [
    ("llama", "tp2-dp2-zero1-sp", (3,), "8xA100-80G"),
    ("llama", "tp1-dp2", (1, 4, 7), "8xA100-80G"),
    ("gpt", "tp2-dp2-cp2-zero1-sp", (5,), "2x8xA100-80G"),
    ("bert", "tp4-dp1-full-sp", (2,), "8xA100-80G"),
    ("mixtral", "tp2-dp4-ep2-zero1-sp", (4,), "2x8xA100-80G"),
    ("mixtral", "tp1-dp8-ep4-zero1", (), "8xA100-80G"),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def plan(request):
    model, strategy, cuts, cluster = request.param
    return planned(model, strategy, cuts=cuts, micro_batches=2, batch=32, cluster=cluster)


def test_ranks(core, plan):
    s = plan.layers[0].strategy
    mine = rank_layout(plan).groups
    first = {layer.stage: mine[layer.name] for layer in plan.layers}
    generator = core[0].RankGenerator(tp=s.tp, ep=1, dp=s.dp, pp=plan.pp, cp=s.cp, order="tp-cp-ep-dp-pp")
    for name in ("tp", "cp", "dp"):
        theirs = sorted(tuple(group) for group in generator.get_ranks(name))
        assert sorted(group for groups in first.values() for group in groups[name]) == theirs
    stages = {tuple(sorted(group)) for group in zip(*rank_layout(plan).stages, strict=True)}
    assert {tuple(sorted(group)) for group in generator.get_ranks("pp")} == stages


def test_expert_ranks(core, plan):
    s = plan.layers[0].strategy
    etp, ep, edp = s.grids.expert.sizes
    experts = core[0].RankGenerator(tp=etp, ep=ep, dp=edp, pp=plan.pp, cp=1, order="tp-cp-ep-dp-pp")
    first = {layer.stage: rank_layout(plan).groups[layer.name] for layer in plan.layers}
    mine = sorted(group for groups in first.values() for group in groups["ep"])
    assert mine == sorted(tuple(group) for group in experts.get_ranks("ep"))


def test_layout(core, plan):
    parsed = core[2].PipelineParallelLayerLayout.from_str(layout(plan), plan.pp)
    parsed.validate_layer_layout(num_layers=6, mtp_num_layers=None)
    kinds = {layer.name: layer.kind for layer in plan.model.layers}
    names = {"embedding": "embedding", "head": "loss"}
    for i, stage in enumerate(plan.stages):
        assert [kind.name for kind in parsed.layout[i][0]] == [names.get(kinds[n], "decoder") for n in stage.layers]


@pytest.mark.parametrize("sizes", [(3, *[2] * 34, 3, *[2] * 3, 2), (1, 3, *[2] * 37, 4), (3, *[2] * 38, 3)])
def test_layout_of_chunks(core, sizes):
    """Its parser puts every layer into the chunk of the rank that the plan puts it into."""
    import torch

    plan = proposal(
        build("llama3-70b"), 64, "tp4-dp2-zero1-sp", cuts=tuple(accumulate(sizes))[:-1],
        schedule="interleaved", vpp=5, batch=256, micro_batches=128,
    )  # fmt: skip
    assert core[2].PipelineParallelLayerLayout.get_num_stages_from_str(layout(plan)) == 40
    parsed = core[2].PipelineParallelLayerLayout.from_str(layout(plan), plan.pp)
    parsed.validate_layer_layout(num_layers=80, mtp_num_layers=None)
    kinds = {layer.name: layer.kind for layer in plan.model.layers}
    names = {"embedding": "embedding", "head": "loss"}
    theirs = [iter(chunks) for chunks in parsed.layout]
    for stage, rank in zip(plan.stages, plan.candidate.pipeline.chunks, strict=True):
        assert [kind.name for kind in next(theirs[rank])] == [names.get(kinds[n], "decoder") for n in stage.layers]
    config = core[1].TransformerConfig(
        num_layers=80, hidden_size=8192, num_attention_heads=64, pipeline_dtype=torch.bfloat16,
        pipeline_model_parallel_size=8, pipeline_model_parallel_layout=layout(plan),
    )  # fmt: skip
    assert config.virtual_pipeline_model_parallel_size == 5
    group = dict(word.removeprefix("--").partition("=")[::2] for word in words(plan))
    assert config.microbatch_group_size_per_vp_stage == int(group["microbatch-group-size-per-virtual-pipeline-stage"])


def test_configuration(core, plan):
    """The arguments that are fields of TransformerConfig make a valid one."""
    said = dict(word.removeprefix("--").partition("=")[::2] for word in words(plan))
    renamed = {"num-experts": "num_moe_experts", "disable-bias-linear": "", "pipeline-model-parallel-layout": ""}
    fields = core[1].TransformerConfig.__dataclass_fields__
    values = {}
    for flag, value in said.items():
        name = renamed.get(flag, flag.replace("-", "_"))
        if name in fields:
            values[name] = (
                True if not value else int(value) if value.isdigit() else float(value) if "." in value else value
            )
    values["add_bias_linear"] = "disable-bias-linear" not in said
    if plan.pp > 1:
        import torch

        values |= {"pipeline_model_parallel_layout": layout(plan), "pipeline_dtype": torch.bfloat16}
    config = core[1].TransformerConfig(**values)
    assert config.num_layers == 6
    assert config.tensor_model_parallel_size == plan.layers[0].strategy.tp
    assert config.sequence_parallel == plan.layers[0].strategy.sequence_parallel
    assert len(values) > 10
