"""One row: a stated, uniform plan priced through the same graph, cluster and cost model as ``plan`` uses."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..costs import Candidate
from ..errors import BadValue
from ..models import Hyperparameters, from_hyperparameters, named
from ..modules import MODULES
from ..strategy import RECOMPUTES, Recompute, Sharding, StrategySpace
from ..system import DEFAULT, Attention, Stack, era_of, training_of
from ..tuning import RANK, tuned
from .hardware import cluster_of
from .published import filled
from .schedule import stated

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..graph import ModelGraph


DESCRIBED = ("bert", "t5", "vit", "swin", "gpt")
"""Families whose named models columns describe whole."""

NO = ("", "1", "0", "no", "none", "false", "off", "-")
"""How columns say that there is none of what they are for, or one, which is as much."""

DECODERS = ("gpt", "llama", "mixtral")
"""Families whose attention may be a fused kernel or not."""

MOST = {"layers": 20_000, "heads": 1e6, "num_gpus": 2**20, "gpus_per_node": 2**16, "tp": 1e6, "pp": 1e6, "vpp": 1e6}
"""The largest number that a column may have; 10^10 of the others."""


@dataclass(frozen=True)
class Plan:
    """What a row says, filled up with defaults."""

    graph: ModelGraph
    cluster: Cluster
    candidate: Candidate
    space: StrategySpace


def parse(row: Mapping[str, str], notes: list[str]) -> Plan:
    """The plan that a row describes; every default used is added to ``notes``.

    Raises
    ------
    BadValue
        If something needed is missing, malformed or contradictory (naming the column).
    """
    # What the csv module finds beyond the header has no name, and is a list.
    row = {name: "" if (text or "").strip().lower() in _NOTHING else text for name, text in row.items() if name}
    devices = _devices(row, notes)
    per_node = _number(row, "gpus_per_node")
    cluster, kinds = cluster_of(
        row.get("gpu") or "", devices, per_node, row.get("intra_bw") or "", row.get("inter_bw") or "", notes
    )
    model = row.get("model") or "model"
    columns = shape_of(row)
    shape = filled(model, columns, notes)
    train, freeze = _adapters(row), (row.get("freeze") or "").split()
    if train in ("lora", "qlora"):
        notes.append(f"adapters of rank {RANK} beside all products of the blocks")
    if not train and re.search(r"\bq?lora\b", model, re.IGNORECASE):
        notes.append("all weights trained: adapters are not priced without the column train (lora:r=16)")
    tp, pp, cp, dp = _degrees(row, devices, min(kind.node_size for kind in kinds), notes)
    if shape.kv_heads and tp % shape.kv_heads == 0 and tp > shape.kv_heads:
        notes.append(f"{shape.kv_heads} key heads repeated for tp {tp}")
        shape = shape._replace(kv_heads=tp)
    stack = Stack(row.get("system") or "")
    if not stack.name:
        notes.append(f"software {DEFAULT}")
    graph = tuned(_modelled(model, columns, shape, stack, _count(row, "mtp") or 0, notes), train, freeze)
    ep, etp = 1, tp
    if any(op.experts for layer in graph.layers for op in layer.operators):
        ep, etp = _expert_grid(row, tp, tp * cp * dp, notes)
    if graph.architecture.get("experts"):
        notes.append("tokens spread evenly over experts that run as grouped products, their dispatch at full bandwidth")
    batch = _number(row, "global_batch")
    if batch is None:
        batch = (_number(row, "micro_batch") or 1) * dp * (4 * pp if pp > 1 else 1)
        notes.append(f"global batch {batch}")
    sharding = _sharding(row.get("sharding") or stack.sharding, pp, notes)
    recompute = _recompute(row.get("recompute") or "")
    precision = _precision_of(row, cluster, notes)
    older = recompute == "full" and sharding != "zero3" and graph.family != "llama"
    fused = stack.fuses_attention(era_of(cluster), precision, graph.sequence, older=older)
    if recompute is None and not fused and precision == "fp16" and stack.megatron:
        # It had nothing else then, and recomputed every layer (Shoeybi et al. 2019, section 5).
        recompute = "full"
        notes.append("recompute full")
    micro, count = _micro_batches(row, batch, dp, pp, notes)
    training = training_of(
        stack,
        cluster,
        graph.family,
        graph.sequence,
        batch=micro * dp * count,
        precision=precision,
        attention=_attention(row),
        older=older,
    )
    if not fused and graph.architecture.get("family") in DECODERS:
        notes.append(f"attention not fused{', dropout' if training.dropout else ''}, as in recipes of its time")
    space = StrategySpace(
        tp=(tp,),
        dp=(dp,),
        cp=(cp,),
        ep=(ep,),
        etp=(etp,),
        shardings=(sharding,) if sharding else ("none", "zero1", "zero3") if dp * cp > 1 else ("none",),
        recomputes=(recompute,) if recompute else RECOMPUTES,
        replicate=(_number(row, "replicate") or 1,),
        sequence_parallel=fused or etp != tp,
    )
    pipeline = stated(row.get("schedule") or "", pp, _number(row, "vpp"), count)
    return Plan(graph, cluster, Candidate(pipeline, count, training), space)


def _modelled(
    model: str, columns: Hyperparameters, shape: Hyperparameters, stack: Stack, mtp: int, notes: list[str]
) -> ModelGraph:
    """The model by its name where no column says anything of it, else what the columns describe."""
    if columns._replace(sequence=0) == Hyperparameters():
        own = named(model, None, stack.kernels)
        if own is not None and own.family not in DESCRIBED:
            graph = named(model, columns.sequence or min(2048, own.sequence), stack.kernels, mtp=mtp) or own
            if not columns.sequence:
                notes.append(f"sequence {graph.sequence}")
            if mtp and not any(layer.name.startswith("mtp.") for layer in graph.layers):
                notes.append("no layers of multi-token prediction")
            if re.search(r"(?<![a-z])(vl|omni|vision)(?![a-z])", model, re.IGNORECASE):
                notes.append("the language part alone")
            return graph
    return from_hyperparameters(model, shape, notes, kernels=stack.kernels)


def shape_of(row: Mapping[str, str]) -> Hyperparameters:
    """The model that a row's columns state, what is blank left unknown.

    Raises
    ------
    BadValue
        If a column is malformed, or ``head_size`` and ``head_dim`` contradict each other.
    """
    size, other = _number(row, "head_size"), _number(row, "head_dim")
    if size and other and size != other:
        raise BadValue(f"head_size is {size} and head_dim {other}", "give one of them")
    experts = _count(row, "experts")
    return Hyperparameters(
        layers=_number(row, "layers") or 0,
        hidden=_number(row, "hidden") or 0,
        heads=_number(row, "heads") or 0,
        kv_heads=_number(row, "kv_heads") or 0,
        ffn=_number(row, "ffn") or 0,
        vocab=_number(row, "vocab") or 0,
        sequence=_number(row, "seq") or 0,
        head_size=size or other or 0,
        experts=0 if experts is None else max(1, experts),
        top_k=_count(row, "top_k") or 0,
        moe_ffn=_count(row, "moe_ffn") or 0,
        shared_experts=_count(row, "shared_experts"),
        dense_layers=_count(row, "dense_layers"),
        family=(row.get("family") or "").strip(),
    )


def _adapters(row: Mapping[str, str]) -> str:
    """What ``--train`` would say of a row, empty where its adapters are none."""
    peft = (row.get("peft") or "").strip()
    return (row.get("train") or "").strip() or ("" if peft.lower() in NO else peft)


def _attention(row: Mapping[str, str]) -> Attention | None:
    """The kernel of attention that a row states, or ``None``."""
    word = (row.get("attention") or "").strip().lower()
    if word not in ("", "eager", "fused"):
        raise BadValue(f"attention is {word!r}", "write eager or fused")
    return {"eager": "eager", "fused": "fused"}.get(word)  # type: ignore[return-value]


def _count(row: Mapping[str, str], name: str) -> int | None:
    """A number that may be 0, or ``None`` if it is blank."""
    return 0 if (row.get(name) or "").strip() == "0" else _number(row, name)


_NOTHING = ("-", "--", "?", "n/a", "na", "nan", "null", "tbd", "unknown", "unspecified")
"""What sources write where they know nothing."""


def _number(row: Mapping[str, Any], name: str) -> int | None:
    text = str(row.get(name) or "").strip().replace(",", "")
    if not text:
        return None
    try:
        # 8K positions are 8192; of anything else a k could be a thousand.
        value = float(text[:-1]) * 1024 if name == "seq" and text[-1] in "kK" else float(text)
    except ValueError:
        raise BadValue(f"{name} is {text!r}", "give a whole number") from None
    if not math.isfinite(value) or value != int(value) or value < 1:
        raise BadValue(f"{name} is {text}", "give a whole number of 1 or more")
    most = MOST.get(name, 1e10)
    if value > most:
        raise BadValue(f"{name} is {value:.6g}", f"give at most {most:.6g}")
    return int(value)


def _devices(row: Mapping[str, str], notes: list[str]) -> int:
    """The number of devices, else the product of the degrees."""
    devices = _number(row, "num_gpus")
    if devices is None:
        degrees = [_number(row, name) for name in ("tp", "pp", "dp")]
        if None in degrees:
            raise BadValue("num_gpus is blank", "give the number of devices, or all degrees")
        devices = math.prod(d for d in degrees if d) * (_number(row, "cp") or 1)
        notes.append(f"{devices} devices")
    return devices


def _degrees(row: Mapping[str, str], devices: int, node: int, notes: list[str]) -> tuple[int, int, int, int]:
    """Degrees of tensor, pipeline, context and data parallelism; data parallelism takes what is left.

    If both are unknown, tensor parallelism fills the node and pipelining the rest of what data parallelism leaves
    (Narayanan et al. 2021, arXiv 2104.04473, takeaway 1).
    """
    tp, pp, cp, dp = (_number(row, name) for name in ("tp", "pp", "cp", "dp"))
    cp = cp or 1
    if tp is None or pp is None:
        over = devices // (cp * dp) if dp else (tp or 1) * (pp or 1)
        tp = tp or math.gcd(node, max(1, over // (pp or 1)))
        pp = pp or max(1, over // tp)
        notes.append(f"tp {tp}, pp {pp}")
    rest, over = divmod(devices, tp * pp * cp)
    if over:
        raise BadValue(f"tp {tp} * pp {pp} * cp {cp} does not divide {devices} devices", "correct the degrees")
    if dp is None:
        notes.append(f"dp {rest}")
    elif dp != rest:
        raise BadValue(f"tp {tp} * pp {pp} * cp {cp} * dp {dp} is not {devices} devices", "correct the degrees")
    return tp, pp, cp, rest


def _expert_grid(row: Mapping[str, str], tp: int, ranks: int, notes: list[str]) -> tuple[int, int]:
    """Degrees ep and etp on the ranks of a stage; etp is tp where a row does not say (Megatron-Core).

    Experts that are spread over more ranks than a stage has are spread over those that it has.

    Raises
    ------
    BadValue
        If etp does not divide the ranks.
    """
    ep, etp = _number(row, "ep") or 1, _number(row, "etp")
    if etp is None:
        etp = tp if ranks % (tp * ep) == 0 else 1
        if tp > 1 and ep > 1:
            notes.append(f"etp {etp}")
    if ranks % etp:
        raise BadValue(f"etp {etp} does not divide the {ranks} devices of a stage", "correct the degrees")
    if ranks // etp % ep:
        notes.append(f"ep {math.gcd(ep, ranks // etp)} in place of {ep}")
    return math.gcd(ep, ranks // etp), etp


def _micro_batches(row: Mapping[str, str], batch: int, dp: int, pp: int, notes: list[str]) -> tuple[int, int]:
    """Samples of a micro-batch on one device, and the number of micro-batches."""
    micro = _number(row, "micro_batch")
    if micro is None:
        if batch % dp:
            raise BadValue(f"global_batch {batch} does not divide by dp {dp}", "correct the batch")
        micro = 1 if pp > 1 else batch // dp
        notes.append(f"micro-batch {micro}")
    if batch % dp:
        raise BadValue(f"global_batch {batch} does not divide by dp {dp}", "correct the batch")
    count, over = divmod(batch // dp, micro)
    if over or not count:
        count = max(1, round(batch / dp / micro))
        notes.append(f"{count} micro-batches")
    return micro, count


def _sharding(text: str, pp: int, notes: list[str]) -> Sharding | None:
    low = text.lower()
    if "offload" in low:
        raise BadValue(f"sharding {text!r} moves states to the host", "offloading is not modelled")
    if "fsdp" in low and pp > 1 and "full_shard" not in low:
        # Gathering for every micro-batch would stall the pipeline: weights stay gathered (torchtitan, reshard_after_
        # forward "default" means never under pipelining), gradients are reduced once; optimizer states are sharded.
        notes.append("fsdp in a pipeline keeps its weights gathered (zero1)")
        return "zero1"
    if any(word in low for word in ("zero3", "zero-3", "full_shard", "full shard", "fsdp2", "stage3", "stage 3")):
        return "zero3"
    if any(word in low for word in ("zero2", "zero-2", "shard_grad_op", "stage2", "stage 2")):
        return "zero2"
    if any(word in low for word in ("zero1", "zero-1", "distributed optimizer", "stage1", "stage 1")):
        return "zero1"
    if "fsdp" in low:
        return "zero3"
    return "none" if low else None


def _recompute(text: str) -> Recompute | None:
    low = text.lower()
    if not low:
        return None
    if "selective" in low:
        named = {NAMED.get(word, word) for word in re.findall(r"[a-z]\w*", low)}
        found = "+".join(word for word in MODULES[1:] if word in named)
        return found if found not in ("", "core_attn") else "selective"
    return "none" if low in ("none", "no", "false", "off", "0", "disabled") else "full"


NAMED = {
    "layernorm": "norm",
    "moe_act": "activation",
    "mla_up_proj": "mla_up",
    "core_attention": "core_attn",
    "attention": "core_attn",
}
"""Modules as Megatron-Core names them. The attention core alone is what selective recomputation was (Korthikanti et al.
2022), and what can be rebuilt without a product goes with it."""


def _precision_of(row: Mapping[str, str], cluster: Cluster, notes: list[str]) -> str:
    """The precision of a row; one that names no option of training was run without any, at PyTorch's default."""
    if any(row.get(name) for name in ("precision", "sharding", "recompute")):
        return _precision(row.get("precision") or "", cluster, notes)
    precision = _precision("fp32", cluster, notes)
    notes.append(precision)
    return precision


_NARROW = {
    "nvfp4": r"fp4",
    "mxfp8": r"mx-?_?fp8|fp8-?_?\s?mx|microscal",
    "fp8-blockwise": r"block|fp8-?_?\s?sc\b|subchannel",
    "fp8-tensorwise": r"tensor-?\s?wise|per-?\s?tensor|current|rowwise|fp8-?_?\s?cs\b",
    "fp8-delayed": r"delayed|fp8-?_?\s?ds\b",
}
"""How sources write the recipes of less than 16 bits (Megatron Bridge: fp8ds, fp8cs, fp8sc, fp8mx)."""


def _precision(text: str, cluster: Cluster, notes: list[str]) -> str:
    low = text.lower()
    bare = re.sub(r"\(.*?\)", "", low)
    if "fp8" in bare or "float8" in bare or "fp4" in bare:
        found = next((name for name, pattern in _NARROW.items() if re.search(pattern, bare)), "fp8")
    elif "bf16" in bare or "bfloat16" in bare:
        found = "bf16"
    elif "fp16" in bare or "float16" in bare or "half" in bare:
        found = "fp16"
    elif "tf32" in bare:
        found = "tf32"
    elif "fp32" in bare or "float32" in bare:
        found = "tf32" if all("tf32" in node.device.peak_flops for node in cluster.nodes) else "fp32"
    else:
        found = cluster.best_precision
        notes.append(found)
    devices = cluster.device_kinds
    if all(device.runs(found) for device in devices):
        return found
    for other in ("fp8", "bf16", "fp16", "fp32") if found in _NARROW else ("bf16", "fp16", "fp32"):
        if all(device.runs(other) for device in devices):
            notes.append(f"{other} in place of {found}")
            return other
    return "fp32"
