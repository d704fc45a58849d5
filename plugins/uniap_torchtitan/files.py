"""The files of an export: flags that the plan decides, the model's configuration, and a script that launches them."""

from __future__ import annotations

import os
from pathlib import Path

from uniap_core.api import Plan, line, write_text

from . import TORCHTITAN
from .arguments import flags, subcommand
from .model import FUNCTION, MODULE, module_text

FLAGS = "flags.txt"
LAUNCH = "launch.sh"


def export(plan: Plan, folder: str | os.PathLike[str]) -> list[str]:
    """Write the flags, the configuration module and the launch script.

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
    texts = {FLAGS: flags_file(plan), f"{MODULE}.py": module_text(plan), LAUNCH: launch_script(plan)}
    for name, text in texts.items():
        write_text(target / name, text)
    (target / LAUNCH).chmod(0o755)
    return [str(target / name) for name in texts]


def flags_file(plan: Plan) -> str:
    """One word a line, under comments; ``launch.sh`` reads it."""
    lines = [f"# {line(text)}" for text in summary(plan)] + [""]
    for words in flags(plan):
        lines += map(line, words)
    return "\n".join(lines) + "\n"


def summary(plan: Plan) -> list[str]:
    """What was planned and what is expected of it."""
    each = plan.global_batch // plan.micro_batches
    lines = [
        f"Flags for torchtitan {TORCHTITAN}, written by uniap. One word a line.",
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
    return [*lines, f"plan {plan.seal}"]


def launch_script(plan: Plan) -> str:
    """A bash script around torchrun; settings that are no part of a plan come from the environment."""
    return LAUNCH_TEMPLATE.format(
        version=TORCHTITAN,
        title=line(f"{plan.model.name} on {plan.cluster.name}, pp {plan.pp}, {plan.micro_batches} micro-batches"),
        nodes=len(plan.cluster.nodes),
        devices=plan.cluster.nodes[0].devices,
        node_rank="${NODE_RANK:?set NODE_RANK}" if len(plan.cluster.nodes) > 1 else "0",
        address="${MASTER_ADDR:?set MASTER_ADDR to node 0}" if len(plan.cluster.nodes) > 1 else "localhost",
        flags=FLAGS,
        module=MODULE,
        function=FUNCTION,
        subcommand=subcommand(plan),
    )


LAUNCH_TEMPLATE = """\
#!/usr/bin/env bash
# {title}
# For stock torchtitan {version} (pip install torchtitan=={version}). Run on every node:
#   ./launch.sh [further torchtitan flags]
# Settings:
#   NODE_RANK, MASTER_ADDR, MASTER_PORT   on several nodes: the node's number from 0, in the order of the plan's
#                   cluster, and where node 0 listens
#   HF_ASSETS       folder with the tokenizer
#   DATASET         c4, or another of torchtitan's
#   STEPS           iterations
# What the plan decides is in {flags}; the model is in {module}.py.
set -euo pipefail

here=$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)
export PYTHONPATH="$here${{PYTHONPATH:+:$PYTHONPATH}}"

mapfile -t plan < <(grep -v -e '^#' -e '^$' "$here/{flags}")
run=(--hf_assets_path "${{HF_ASSETS:?set HF_ASSETS to a folder with the tokenizer}}"
     --dataloader.dataset "${{DATASET:-c4}}" --training.steps "${{STEPS:-100}}")

exec ${{TORCHRUN:-torchrun}} --nnodes={nodes} --nproc-per-node={devices} --node-rank="{node_rank}" \\
    --master-addr="{address}" --master-port="${{MASTER_PORT:-29500}}" \\
    -m torchtitan.train --module {module} --config {function} "${{plan[@]}}" "${{run[@]}}" "$@" {subcommand}
"""
