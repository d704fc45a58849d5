"""A plan's decisions as flags of torchtitan's command line."""

from __future__ import annotations

from uniap_core.api import Plan

from .expressible import blocks
from .schedules import NAMES


def module_names(plan: Plan) -> list[list[str]]:
    """Module names of every stage, as ``module_fqns_per_model_part`` wants them."""
    numbers = {layer.name: i for i, layer in enumerate(blocks(plan))}
    kinds = {layer.name: layer.kind for layer in plan.model.layers}
    parts = {"embedding": ["tok_embeddings"], "head": ["norm", "lm_head"]}
    return [
        [module for name in stage.layers for module in parts.get(kinds[name]) or [f"layers.{numbers[name]}"]]
        for stage in plan.stages
    ]


def flags(plan: Plan) -> list[tuple[str, ...]]:
    """Flags with their values, one tuple of words each.

    Parameters
    ----------
    plan
        A plan that :func:`~uniap_torchtitan.expressible.express` has no reason against.
    """
    strategy = plan.layers[0].strategy
    copies = strategy.replicate if strategy.sharding != "none" else strategy.dp
    each = plan.global_batch // plan.micro_batches // strategy.dp
    local = each if plan.pp == 1 else plan.global_batch // strategy.dp
    rows: list[tuple[str, ...]] = [
        ("parallelism.data_parallel_replicate_degree", str(copies)),
        ("parallelism.data_parallel_shard_degree", str(strategy.dp // copies)),
        ("parallelism.fsdp_reshard_after_forward", "always" if strategy.sharding == "zero3" else "never"),
        ("parallelism.tensor_parallel_degree", str(strategy.tp)),
        (f"parallelism.{'' if strategy.sequence_parallel or strategy.tp == 1 else 'no-'}enable_sequence_parallel",),
        ("parallelism.context_parallel_degree", str(strategy.cp)),
        ("parallelism.pipeline_parallel_degree", str(plan.pp)),
    ]
    if plan.pp > 1:
        rows += [
            ("parallelism.pipeline_parallel_schedule", NAMES[plan.schedule]),
            ("parallelism.pipeline_parallel_microbatch_size", str(each)),
            ("parallelism.module_fqns_per_model_part", *(",".join(names) for names in module_names(plan))),
        ]
    rows += [
        ("training.local_batch_size", str(local)),
        ("training.global_batch_size", str(plan.global_batch)),
        ("training.seq_len", str(plan.sequence)),
        ("training.mixed_precision_param", "bfloat16" if plan.precision == "bf16" else "float32"),
        # They do not go with pipelines, and the plan was priced without them.
        ("training.disable_cuda_graphs",),
    ]
    return [(f"--{flag}", *values) for flag, *values in rows]


def subcommand(plan: Plan) -> str:
    """The choice of activation checkpointing, which comes last on the command line."""
    return f"activation-checkpoint:{blocks(plan)[0].strategy.recompute}"
