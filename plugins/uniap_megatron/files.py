"""The files of an export: the arguments that the plan decides, and a script that launches them."""

from __future__ import annotations

import os
from pathlib import Path

from uniap_core.api import Plan, line, write_text

from . import MEGATRON
from .arguments import layout, sections
from .expressible import flashes
from .shape import padded_vocabulary

ARGUMENTS = "arguments.txt"
LAUNCH = "launch.sh"


def export(plan: Plan, folder: str | os.PathLike[str]) -> list[str]:
    """Write the arguments file and the launch script.

    Parameters
    ----------
    plan
        An expressible plan.
    folder
        An existing folder.

    Returns
    -------
    list of str
        Paths of the files written.

    Raises
    ------
    BadFile
        If the folder cannot be written.
    """
    target = Path(folder)
    written = [target / ARGUMENTS, target / LAUNCH]
    write_text(written[0], arguments_file(plan))
    write_text(written[1], launch_script(plan))
    written[1].chmod(0o755)
    return [str(path) for path in written]


def arguments_file(plan: Plan) -> str:
    """One argument a line, under comments; ``launch.sh`` reads it."""
    lines = [f"# {line(text)}" for text in summary(plan)]
    for title, arguments in sections(plan):
        lines += ["", f"# {title}", *(argument.text for argument in arguments)]
    return "\n".join(lines) + "\n"


def summary(plan: Plan) -> list[str]:
    """What was planned and what is expected of it."""
    each = plan.global_batch // plan.micro_batches
    lines = [
        f"Arguments for Megatron-LM {MEGATRON}, written by uniap. One argument a line.",
        f"{plan.model.name} on {plan.cluster.name}, batch {plan.global_batch}, sequence {plan.sequence}, "
        f"{plan.precision}",
        f"pp {plan.pp}, {plan.micro_batches} micro-batches of {each}: predicted "
        f"{plan.predicted.iteration_time_s:.4g} s per iteration, {plan.predicted.samples_per_s:.4g} samples/s",
    ]
    for i, stage in enumerate(plan.stages):
        lines.append(
            f"stage {i}: ranks {stage.ranks[0]}-{stage.ranks[-1]}, {stage.layers[0]} to {stage.layers[-1]}, "
            f"{stage.memory_bytes / 2**30:.1f} of {stage.memory_limit_bytes / 2**30:.1f} GiB"
        )
    lines.append(f"vocabulary {plan.model.architecture['vocab']}, padded to {padded_vocabulary(plan)}")
    if plan.training.flash_attention and not flashes(plan):
        lines.append("priced with fused attention, which these devices have not in this precision: expect longer")
    if plan.model.family == "bert":
        lines.append("Megatron-LM's BERT is pre-norm where the original is post-norm")
    return [*lines, f"plan {plan.seal}"]


def launch_script(plan: Plan) -> str:
    """A bash script around torchrun; settings that are no part of a plan come from the environment."""
    bert = plan.model.family == "bert"
    return LAUNCH_TEMPLATE.format(
        tag=MEGATRON,
        title=line(f"{plan.model.name} on {plan.cluster.name}: {layout(plan) if plan.pp > 1 else 'one stage'}"),
        nodes=len(plan.cluster.nodes),
        devices=plan.cluster.nodes[0].devices,
        node_rank="${NODE_RANK:?set NODE_RANK}" if len(plan.cluster.nodes) > 1 else "0",
        address="${MASTER_ADDR:?set MASTER_ADDR to node 0}" if len(plan.cluster.nodes) > 1 else "localhost",
        script="pretrain_bert.py" if bert else "pretrain_gpt.py",
        data=BERT_DATA if bert else GPT_DATA.format(ordinary=int(plan.model.architecture["vocab"]) - 1),
        arguments=ARGUMENTS,
        data_help=BERT_HELP if bert else GPT_HELP,
    )


GPT_HELP = """\
#   DATA_PATH=...   prefix of a preprocessed data set; without it Megatron-LM's mock data are used
#   TOKENIZER=...   with DATA_PATH: tokenizer arguments, e.g. "--tokenizer-type HuggingFaceTokenizer ..."
"""

GPT_DATA = """\
if [ -n "${{DATA_PATH:-}}" ]; then
    read -ra data <<<"--data-path $DATA_PATH ${{TOKENIZER:?set TOKENIZER with DATA_PATH}}"
else
    # The null tokenizer adds its end-of-document token to these.
    data=(--mock-data --tokenizer-type=NullTokenizer --vocab-size={ordinary} --split=99,1,0)
fi
"""

BERT_HELP = """\
#   DATA_PATH=...   prefix of a preprocessed data set (pretrain_bert.py has no mock data)
#   VOCAB_FILE=...  its word-piece vocabulary
"""

BERT_DATA = """\
data=(--data-path "${DATA_PATH:?set DATA_PATH}" --vocab-file "${VOCAB_FILE:?set VOCAB_FILE}"
      --tokenizer-type=BertWordPieceLowerCase --split=949,50,1)
"""

LAUNCH_TEMPLATE = """\
#!/usr/bin/env bash
# {title}
# For stock Megatron-LM {tag} with Transformer Engine. Run on every node:
#   MEGATRON=/path/to/Megatron-LM ./launch.sh [further Megatron-LM arguments]
# Settings:
#   NODE_RANK, MASTER_ADDR, MASTER_PORT   on several nodes: the node's number from 0, in the order of the plan's
#                   cluster, and where node 0 listens
#   STEPS, LR       iterations and learning rate
#   EVAL_INTERVAL, EVAL_ITERS   iterations between evaluations, and of one (0: none)
{data_help}\
# What the plan decides is in {arguments}; do not repeat it here.
set -euo pipefail

here=$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)
: "${{MEGATRON:?set MEGATRON to a checkout of Megatron-LM {tag}}}"
# Tensor and context parallelism rely on the order in which kernels were issued.
export CUDA_DEVICE_MAX_CONNECTIONS=1

mapfile -t plan < <(grep -v -e '^#' -e '^$' "$here/{arguments}")
{data}\
run=(--train-iters="${{STEPS:-100}}" --lr="${{LR:-1e-4}}" --min-lr=0 --lr-decay-style=constant
     --eval-interval="${{EVAL_INTERVAL:-1000}}" --eval-iters="${{EVAL_ITERS:-0}}" --log-interval=1 --log-throughput)

cd "$MEGATRON"
exec ${{TORCHRUN:-torchrun}} --nnodes={nodes} --nproc-per-node={devices} --node-rank="{node_rank}" \\
    --master-addr="{address}" --master-port="${{MASTER_PORT:-6000}}" \\
    {script} "${{plan[@]}}" "${{data[@]}}" "${{run[@]}}" "$@"
"""
