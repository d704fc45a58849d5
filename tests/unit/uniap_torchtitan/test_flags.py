"""What a plan decides, as torchtitan is told it."""

import ast
import json
import os
import subprocess
import sys
from itertools import product

import pytest
from fsdp_plans import proposal
from uniap_torchtitan import EXECUTOR, TORCHTITAN
from uniap_torchtitan.arguments import flags, module_names, subcommand
from uniap_torchtitan.expressible import express, fit
from uniap_torchtitan.model import module_text
from uniap_torchtitan.schedules import NAMES, able

from tests.planned import SMALL, planned
from uniap_core.export import export
from uniap_zoo import build


def spoken(plan):
    """Values by the last part of the flag."""
    return {words[0].rpartition(".")[2]: list(words[1:]) for words in flags(plan)}


def test_a_pipeline_in_torchtitan_words():
    plan = planned("llama", "tp2-dp2-zero1-full-sp", cuts=(3,), micro_batches=4)
    assert express(plan) == []
    said = spoken(plan)
    assert said["data_parallel_replicate_degree"] == ["1"]
    assert said["data_parallel_shard_degree"] == ["2"]
    assert said["fsdp_reshard_after_forward"] == ["never"]
    assert said["tensor_parallel_degree"] == ["2"]
    assert said["pipeline_parallel_degree"] == ["2"]
    assert said["pipeline_parallel_schedule"] == ["1F1B"]
    assert said["pipeline_parallel_microbatch_size"] == ["2"]
    assert said["local_batch_size"] == ["8"]
    assert said["global_batch_size"] == ["16"]
    assert said["module_fqns_per_model_part"] == [
        "tok_embeddings,layers.0,layers.1",
        "layers.2,layers.3,layers.4,layers.5,norm,lm_head",
    ]
    assert "enable_sequence_parallel" in said
    assert subcommand(plan) == "activation-checkpoint:full"


def test_accumulation_without_a_pipeline():
    plan = planned("llama", "tp2-dp4-zero3", micro_batches=2, batch=16)
    assert express(plan) == []
    said = spoken(plan)
    assert said["local_batch_size"] == ["2"]
    assert said["global_batch_size"] == ["16"]
    assert said["fsdp_reshard_after_forward"] == ["always"]
    assert "no-enable_sequence_parallel" in said
    assert "module_fqns_per_model_part" not in said
    assert subcommand(plan) == "activation-checkpoint:none"


def test_replication():
    said = spoken(planned("llama", "tp1-dp4", cuts=(5,), micro_batches=2))
    assert said["data_parallel_replicate_degree"] == ["4"]
    assert said["data_parallel_shard_degree"] == ["1"]


def test_replicas_of_shard_groups():
    plan = planned("llama", "tp1-dp16-zero3-replicate2", cluster="2x8xA100-80G")
    assert express(plan) == []
    said = spoken(plan)
    assert said["data_parallel_replicate_degree"] == ["2"]
    assert said["data_parallel_shard_degree"] == ["8"]
    piped = planned("llama", "tp1-dp8-zero1-replicate2", cuts=(4,), micro_batches=2, cluster="4x4xA100-80G")
    assert express(piped) == []


def test_replicas_that_torchtitan_would_reduce_between_too_often_are_refused():
    plan = planned("llama", "tp1-dp16-zero3-replicate2", micro_batches=2, batch=32, cluster="2x8xA100-80G")
    assert any("in every accumulated micro-batch" in reason for reason in express(plan))
    assert not any(_meets(plan, regime) for regime in fit(plan.model, plan.cluster, plan.training, plan.schedule))
    across = planned("llama", "tp1-dp2-cp4-zero3-replicate4", cluster="8xA100-80G")
    assert any("do not divide dp 2" in reason for reason in express(across))


def test_every_module_has_one_stage():
    plan = planned("llama", "tp1-dp2", cuts=(1, 2, 7), micro_batches=2)
    names = module_names(plan)
    assert names[0] == ["tok_embeddings"]
    assert names[3] == ["norm", "lm_head"]
    middle = [f"layers.{i}" for i in range(6)]
    assert [name for stage in names for name in stage] == ["tok_embeddings", *middle, "norm", "lm_head"]


@pytest.mark.parametrize(
    ("strategy", "cuts", "count", "able"),
    [
        ("tp1-dp8", (), 1, True),
        ("tp1-dp8-zero1", (), 1, True),
        ("tp1-dp8-zero2", (), 1, True),
        ("tp1-dp8-zero3", (), 2, True),
        ("tp1-dp8-zero2", (), 2, False),
        ("tp1-dp8-zero1", (), 2, False),
        ("tp1-dp8", (), 2, False),
        ("tp8-dp1-sp", (), 2, True),
        ("tp1-dp4", (4,), 2, True),
        ("tp1-dp4-zero1", (4,), 2, True),
        ("tp1-dp4-zero2", (4,), 2, False),
        ("tp1-dp4-zero3", (4,), 2, False),
        ("tp1-dp4-zero3", (4,), 1, True),
    ],
)
def test_sharding_between_micro_batches(strategy, cuts, count, able):
    model = "llama:layers=6,hidden=256,heads=8,ffn=512,vocab=1000,seq=128"
    plan = planned(model, strategy, cuts=cuts, micro_batches=count, schedule="gpipe")
    assert (express(plan) == []) == able
    permitted = [_meets(plan, regime) for regime in fit(plan.model, plan.cluster, plan.training, plan.schedule)]
    assert any(permitted) == able


CHUNKS = {
    "interleaved": "Interleaved1F1B",
    "zb-h1": "InterleavedZeroBubble",
    "interleaved-zb": "InterleavedZeroBubble",
    "zbv": "ZBVZeroBubble",
    "dualpipev": "DualPipeV",
}


def chunked(schedule, strategy="tp1-dp4", cuts=(1, 3, 7), model=SMALL["llama"], **options):
    vpp = 1 if schedule == "zb-h1" else 2
    cuts = cuts[:1] if vpp == 1 else cuts
    options = {"micro_batches": 4, "precision": "bf16"} | options
    return proposal(build(model), 8, strategy, cuts=cuts, schedule=schedule, vpp=vpp, **options)


@pytest.mark.parametrize("schedule", CHUNKS)
def test_schedules_of_chunks_and_their_stages(schedule):
    """Every virtual stage with its modules, in the order of the flow; torch has a schedule of the name."""
    plan = chunked(schedule)
    assert express(plan) == []
    said = spoken(plan)
    assert said["pipeline_parallel_degree"] == ["2"]
    assert said["pipeline_parallel_schedule"] == [CHUNKS[schedule]]
    names = [",".join(names) for names in module_names(plan)]
    assert said["module_fqns_per_model_part"] == names
    blocks = [f"layers.{i}" for i in range(6)]
    if schedule == "zb-h1":
        assert names == ["tok_embeddings", ",".join([*blocks, "norm", "lm_head"])]
    else:
        assert names == ["tok_embeddings", "layers.0,layers.1", ",".join(blocks[2:]), "norm,lm_head"]


@pytest.mark.parametrize("schedule", CHUNKS)
def test_a_search_is_told_what_the_export_refuses(schedule):
    model, vpp = "llama:layers=12,hidden=256,heads=8,ffn=512,vocab=1000,seq=128", 1 if schedule == "zb-h1" else 2
    for pp, count in product((2, 4), (1, 2, 3, 4, 5, 6, 10, 12, 15, 60)):
        for text in ("", "-zero1", "-zero2", "-full"):
            plan = proposal(
                build(model), 8, f"tp1-dp{8 // pp}{text}", cuts=tuple(range(1, pp * vpp)), batch=60,
                micro_batches=count, schedule=schedule, vpp=vpp, precision="bf16",
            )  # fmt: skip
            regimes = fit(plan.model, plan.cluster, plan.training, schedule)
            told = any(_meets(plan, regime) for regime in regimes)
            assert told == (express(plan) == []), (pp, count, text)


def test_torch_agrees_with_the_counts_and_the_placement_of_chunks():
    """What is permitted torch's classes take, and put where the plan does."""
    torch = pytest.importorskip("torch")
    from torch.distributed.pipelining import PipelineStage
    from torch.distributed.pipelining.schedules import get_schedule_class

    class Stage(PipelineStage):
        """Knows how many there are, and nothing else."""

        is_first = is_last = False

        def __init__(self, stages, ranks):
            self.num_stages, self.group_size, self.group_rank = stages, ranks, 0
            self.submod = torch.nn.Linear(1, 1)

    for schedule, name in CHUNKS.items():
        stages = [Stage(2, 2)] if schedule == "zb-h1" else [Stage(4, 2), Stage(4, 2)]
        plan = chunked(schedule)
        for count in range(1, 17):
            if not able(schedule, 2, count):
                with pytest.raises(ValueError, match="microbatches"):
                    get_schedule_class(name)(stages, count, loss_fn=abs)
                continue
            order = get_schedule_class(name)(stages, count, loss_fn=abs).pipeline_order
            ranks = {action.stage_index: rank for rank, actions in order.items() for action in actions if action}
            assert tuple(ranks[stage] for stage in range(len(plan.stages))) == plan.candidate.pipeline.chunks


@pytest.mark.parametrize(("cuts", "count", "able"), [((4,), 1, False), ((4,), 2, True), ((2, 4, 6), 2, False)])
def test_one_forward_one_backward_needs_a_micro_batch_for_every_stage(cuts, count, able):
    plan = planned("llama", f"tp1-dp{8 // (len(cuts) + 1)}", cuts=cuts, micro_batches=count)
    assert (express(plan) == []) == able
    regimes = fit(plan.model, plan.cluster, plan.training, "1f1b")
    assert any(_meets(plan, regime) for regime in regimes) == able
    assert express(planned("llama", f"tp1-dp{8 // (len(cuts) + 1)}", cuts=cuts, schedule="gpipe")) == []


def _meets(plan, regime):
    """Whether a plan satisfies the pins of a regime."""
    from uniap_core.pins import Pins

    values = {"pp": plan.pp, "micro_batches": plan.micro_batches}
    first = plan.layers[0].strategy
    return all(
        pin.holds(values[pin.key] if pin.key in values else getattr(first, pin.key)) for pin in Pins.of(regime).pins
    )


@pytest.mark.parametrize(
    ("model", "strategy", "word"),
    [
        ("gpt", "tp1-dp8", "family"),
        ("llama", "tp1-dp8-selective", "selective"),
        ("llama", lambda name: "tp1-dp8-full" if name == "layers.1" else "tp1-dp8", "alike"),
        ("llama", lambda name: "tp1-dp8" if name == "head" else "tp2-dp4-sp", "tensor-parallel"),
    ],
)
def test_reasons(model, strategy, word):
    assert any(word in reason for reason in express(planned(model, strategy)))


def test_other_reasons():
    tied = "llama:layers=6,hidden=256,heads=8,ffn=512,vocab=1000,seq=128,tied=true"
    assert any("tie" in reason for reason in express(planned(tied, "tp1-dp4", cuts=(4,))))
    assert any("fp16" in reason for reason in express(planned("llama", "tp1-dp8", precision="fp16")))
    assert any("SGD" in reason for reason in express(planned("llama", "tp1-dp8", optimizer="sgd")))
    pipeline = planned("llama", "tp4-dp1-sp", cuts=(4,), micro_batches=2, tensor_overlap="all", scatter_gather=True)
    for word in ("behind its products", "in parts"):
        assert any(word in reason for reason in express(pipeline))


def test_the_model_module_is_python_with_the_plans_numbers():
    text = module_text(planned("llama", "tp1-dp8"))
    names = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert {"model", "train"} <= names
    assert "= 256, 6, 8, 4, 32, 512" in text


def test_the_script_passes_the_flags_word_for_word(tmp_path):
    plan = planned("llama", "tp1-dp4-zero1", cuts=(4,), micro_batches=2)
    files = export(plan, EXECUTOR, tmp_path / "out")
    assert [os.path.basename(file) for file in files] == ["flags.txt", "uniap_plan.py", "launch.sh"]
    stand_in = tmp_path / "torchrun"
    stand_in.write_text(f"#!{sys.executable}\nimport json, sys; print(json.dumps(sys.argv[1:]))\n")
    stand_in.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "TORCHRUN": str(stand_in), "HF_ASSETS": "/tokenizer"}
    done = subprocess.run([files[-1], "--debug.seed", "1"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    words = [word for row in flags(plan) for word in row]
    at = said.index("train") + 1
    assert said[at - 4 : at] == ["--module", "uniap_plan", "--config", "train"]
    assert said[at : at + len(words)] == words
    assert said[-3:] == ["--debug.seed", "1", "activation-checkpoint:none"]
    for file in files:
        with open(file) as opened:
            assert TORCHTITAN in opened.read()


@pytest.mark.parametrize("lacking", ["NODE_RANK", "MASTER_ADDR", ""])
def test_on_several_nodes_ranks_are_numbered_as_in_the_cluster(lacking, tmp_path):
    plan = planned("llama", "tp1-dp4-zero1", cuts=(4,), micro_batches=2, cluster="2x4xA100-80G")
    files = export(plan, EXECUTOR, tmp_path / "out")
    where = {"NODE_RANK": "1", "MASTER_ADDR": "first"}
    where.pop(lacking, None)
    environment = {"PATH": os.environ["PATH"], "TORCHRUN": "echo", "HF_ASSETS": "/tokenizer", **where}
    done = subprocess.run([files[-1]], env=environment, capture_output=True, text=True)
    if lacking:
        assert done.returncode != 0
        assert f"set {lacking}" in done.stderr
    else:
        assert "--nnodes=2 --nproc-per-node=4 --node-rank=1 --master-addr=first --master-port=29500" in done.stdout


@pytest.mark.parametrize("schedule", ["1f1b", *CHUNKS])
def test_against_torchtitan_where_it_imports(schedule, tmp_path):
    """Its own command line understands the flags, and its degrees multiply to the cluster."""
    pytest.importorskip("triton", reason="torchtitan's models need triton")
    manager = pytest.importorskip("torchtitan.config.manager")
    from torchtitan.distributed import ParallelDims

    plan = planned("llama", "tp2-dp2-zero1-full-sp", cuts=(3,), micro_batches=4)
    if schedule in CHUNKS:
        plan = chunked(schedule, "tp2-dp2-zero1-sp")
    (tmp_path / "uniap_plan.py").write_text(module_text(plan))
    sys.path.insert(0, str(tmp_path))
    try:
        words = [word for row in flags(plan) for word in row]
        config = manager.ConfigManager().parse_args(
            ["--module", "uniap_plan", "--config", "train", *words, subcommand(plan)]
        )
    finally:
        sys.path.remove(str(tmp_path))
    dims = ParallelDims.from_config(config.parallelism, plan.cluster.devices)
    assert (dims.pp, dims.tp, dims.dp_shard) == (2, 2, 2)
    assert config.parallelism.module_fqns_per_model_part == module_names(plan)
    assert config.parallelism.pipeline_parallel_schedule == NAMES[schedule]
