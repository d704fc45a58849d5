"""``uniap export --to fsdp``: a training script with the plan as a table in it, and the modules it runs on.

The folder needs torch and nothing else: the modules are those of this executor, with ``uniap_core.api`` replaced
by the few words of a plan that they read.
"""

from __future__ import annotations

import inspect
import os
import pprint
from pathlib import Path

from uniap_core.api import AXES, Grid, Inexpressible, LayerPlan, Plan, Strategy, line, write_text

from .check import check
from .likeness import differences
from .models.names import family_of, is_traced

MODULES = (
    "check",
    "checkpoint",
    "data",
    "loss",
    "meshes",
    "parallel",
    "pipeline",
    "plan_types",
    "reduce",
    "relayout",
    "schedules",
    "shard",
    "source",
    "split",
    "stage",
    "train",
    "where",
    "wiring",
)
"""What a training script imports, directly or not."""

SCRIPT = '''# {title}
# From the plan {seal}.
{note}"""Trains one model under one plan, predicted {seconds:.4g} s per iteration:

{start}
"""

from __future__ import annotations

import argparse
import os

import torch
import torch.distributed as dist
from runtime.plan_types import Job, Strategy, plan
from runtime.train import train

STRATEGIES = [
{strategies}
]

LAYERS = {{
{layers}
}}

PLAN = plan(
    family={family!r},
    architecture={architecture},
    sequence={sequence},
    strategies=STRATEGIES,
    layers=LAYERS,
    pp={pp},
    chunks={chunks},
    devices_per_rank={devices_per_rank},
    micro_batches={micro_batches},
    global_batch={global_batch},
    precision={precision!r},
    schedule={schedule!r},
    optimizer={optimizer!r},
    dropout={dropout},
    devices={devices},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default="", help="a .npy file of token ids; synthetic samples without")
    parser.add_argument("--checkpoint", default="", help="folder to write checkpoints to")
    parser.add_argument("--resume", default="", help="checkpoint to start from")
    arguments = parser.parse_args()
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")

    def tell(step: int, loss: float, norm: float, seconds: float) -> None:
        if dist.get_rank() == 0:
            print(f"step {{step + 1}}: loss {{loss:.6f}}, gradient norm {{norm:.4f}}, {{seconds:.3f}} s", flush=True)

    train(PLAN, Job(**vars(arguments)), kind, tell=tell)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
'''


NOTES = {
    "llama": """
The model is this folder's own llama, with the sizes of {source} and its biases, norms and rotary positions.
""",
    "": """
The model is this folder's own {family}, with the sizes of {source}.
""",
}
"""What the head of a script says of a traced model, by family or for all others."""


def export(plan: Plan, folder: str | os.PathLike[str]) -> list[str]:
    """Write ``train.py`` and the package ``runtime`` that it uses; returns the paths written.

    Raises
    ------
    Inexpressible
        If the executor cannot run the plan, or the models here are not its model (see :mod:`.likeness`).
    """
    check(plan)
    reasons = list(differences(plan))
    if plan.model.trained < plan.model.parameters:
        reasons.append("its frozen parameters")
    if reasons:
        raise Inexpressible(
            f"a script for {plan.model.name} would need its own code: {'; '.join(reasons)}",
            "use uniap_fsdp.parallelize(model, plan) in your script, or uniap run",
        )
    here, there = Path(__file__).parent, Path(folder)
    (there / "runtime" / "models").mkdir(parents=True, exist_ok=True)
    files = {there / "train.py": script(plan), there / "runtime" / "__init__.py": '"""What train.py runs on."""\n'}
    files[there / "runtime" / "axes.py"] = Path(inspect.getfile(Grid)).read_text()
    for name in MODULES:
        words = ".axes" if name == "plan_types" else ".plan_types"
        files[there / "runtime" / f"{name}.py"] = _own((here / f"{name}.py").read_text(), words)
    for path in sorted((here / "models").glob("*.py")):
        files[there / "runtime" / "models" / path.name] = _own(path.read_text(), "..plan_types")
    for path, text in files.items():
        write_text(path, text)
    return [str(path) for path in files]


def script(plan: Plan) -> str:
    """The text of ``train.py``."""
    strategies = [_constructor(strategy) for strategy in dict.fromkeys(layer.strategy for layer in plan.layers)]
    layers = [f"{x.name!r}: {_row(x)!r}" for x in plan.layers]
    family = family_of(plan.model)
    note = NOTES.get(family, NOTES[""]).format(family=line(family), source=line(plan.model.source))
    return SCRIPT.format(
        title=line(f"Trains {plan.model.name} on {plan.cluster.devices} devices of {plan.cluster.name}."),
        seconds=plan.predicted.iteration_time_s,
        note="".join(f"# {line(text)}\n" for text in note.split("\n") if text) if is_traced(plan.model) else "",
        seal=line(getattr(plan, "seal", "") or "that was never sealed"),
        strategies=_table(strategies),
        layers=_table(layers),
        family=family,
        architecture=pprint.pformat(dict(plan.model.architecture), indent=4, width=100).replace("\n", "\n    "),
        sequence=plan.sequence,
        pp=plan.pp,
        chunks=plan.candidate.pipeline.chunks,
        devices_per_rank=plan.candidate.pipeline.devices_per_rank(plan.cluster.devices),
        micro_batches=plan.micro_batches,
        global_batch=plan.global_batch,
        precision=plan.precision,
        schedule=plan.schedule,
        optimizer=plan.training.optimizer,
        dropout=plan.training.dropout,
        devices=plan.cluster.devices,
        start=start(plan),
    )


def start(plan: Plan) -> str:
    """How torchrun starts the script: once, or on every node with the node's number and its own devices.

    Ranks are numbered along the nodes in the order of the plan's cluster.
    """
    counts = [node.devices for node in plan.cluster.nodes]
    if len(counts) == 1:
        return f"    torchrun --nproc-per-node={counts[0]} train.py --steps 100"
    meet = "--master-addr=HOST --master-port=29500 train.py --steps 100"
    if len(set(counts)) == 1:
        ranks = f"--nnodes={len(counts)} --nproc-per-node={counts[0]} --node-rank=N"
        return (
            f"On each of {len(counts)} nodes, N from 0 and HOST the address of node 0:\n\n    torchrun {ranks} {meet}"
        )
    lines = [
        f"    torchrun --nnodes={len(counts)} --nproc-per-node={count} --node-rank={n} {meet}"
        for n, count in enumerate(counts)
    ]
    return "\n".join([f"On {len(counts)} nodes, one line each, with HOST the address of node 0:", "", *lines])


def _table(rows: list[str]) -> str:
    return "\n".join(f"    {row}," for row in rows)


def _row(layer: LayerPlan) -> dict[str, int | str]:
    return {"stage": layer.stage, "strategy": layer.strategy.name}


LACKING = ("etp", "replicate")
"""Axes on which a plan that is run here has one value: no experts are spread, and there are no replicas."""


def _constructor(strategy: Strategy) -> str:
    """A strategy as an expression."""
    axes = (axis for axis in AXES if axis.name not in LACKING)
    fields = {"name": strategy.name} | {axis.name: strategy[axis.name] for axis in axes}
    return f"Strategy({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


def _own(text: str, words: str) -> str:
    """A module's text with the words of a plan taken from a module of the folder itself."""
    return text.replace("from uniap_core.api import", f"from {words} import")
