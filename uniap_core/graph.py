"""The model as a DAG of layers, each a list of operators with their shapes.

Counts are per sample and symbolic in the sequence length, so parameters are numbers and FLOPs and activation
bytes are functions of batch and sequence. A cost model reads shapes; it never sees model code.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from . import artifact
from .errors import BadValue
from .growth import Growth, value_at
from .limits import Amount, Positions, Shift, Size
from .wellformed import validate

if TYPE_CHECKING:
    import os

    import networkx as nx

OperatorKind = Literal["gemm", "grouped_gemm", "attention", "norm", "pointwise", "embedding", "loss"]
Split = Literal["none", "column", "row", "heads", "vocab", "experts"]


class Length(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Rows per sample: ``fixed + per_position * sequence`` (197 patches of an image; one row per token)."""

    fixed: Shift = 0
    per_position: Size = 0

    def at(self, sequence: int) -> int:
        """Rows of one sample at this sequence length."""
        return self.fixed + self.per_position * sequence

    @staticmethod
    def through(count: int, sequence: int) -> Length:
        """A length of so many rows at one sequence, of rows that grow with it in some other way."""
        step = count // sequence
        return Length(count - step * sequence, step)


TOKENS = Length(0, 1)
"""One row per position of the sequence."""


class Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A tensor that an operator keeps for its backward pass.

    Attributes
    ----------
    width
        Elements per row.
    bytes
        Bytes per element, or 0 for the precision of activations (1 for a dropout mask, 4 for statistics).
    split
        True if tensor parallelism divides it; otherwise only sequence parallelism does.
    selective
        True if selective recomputation drops it (attention core; norms and pointwise work).
    growth
        How its width grows, where it does (the scores of an attention that is written out).
    """

    width: Size
    bytes: Size = 0
    split: bool = False
    selective: bool = False
    growth: tuple[Growth, ...] = ()

    def at(self, sequence: int, rows: float) -> Saved:
        """The same at another sequence, where the operator has so many rows."""
        width = value_at(self.growth, "width", sequence, rows)
        return self if width is None else msgspec.structs.replace(self, width=max(1, round(width)))


class Operator(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One operator of a layer: its shape, how tensor parallelism splits it, and what it saves.

    Attributes
    ----------
    kind
        ``gemm``: (rows x inner) @ (inner x outer), ``count`` times. ``grouped_gemm``: the same over ``experts``
        weight matrices, rows routed to ``top_k`` of them (``rows`` counts tokens once). ``attention``: rows are
        queries, ``keys`` their keys, ``inner`` the head size. ``norm``, ``pointwise``: rows x inner, bound by
        memory bandwidth. ``embedding``: rows looked up in (inner = vocabulary) x (outer = width). ``loss``:
        softmax cross-entropy over rows x (inner = vocabulary).
    split
        ``column`` divides ``outer``, ``row`` divides ``inner`` (and reduces the output), ``heads`` divides heads,
        ``vocab`` divides the vocabulary (padded up), ``experts`` divides by expert parallelism.
    entry
        True for an operator whose input enters a tensor-parallel region: backward all-reduces the gradient of its
        input (rows x inner); under sequence parallelism forward gathers it and backward scatters.
    parameters
        Elements, biases included.
    frozen
        Those of them that are not trained: no gradient, no optimizer state, no update.
    frozen_bytes
        Bytes that each of these takes, constants of blocks included, where they are quantised; 0: as the training's
        precision keeps weights. They are turned into that precision for every product.
    adapter
        True for the weights of an adapter beside a frozen product, which no architecture describes.
    tied
        ``layer/operator`` whose weight this one shares; counted once in the model.
    passes
        Elements read and written per element of rows x inner in forward, for operators bound by memory.
    window
        Keys that a query of an attention sees at most (a sliding window, itself included); 0 is no window. ``keys``
        are all there are: a kernel that knows nothing of windows reads them all and masks.
    growth
        How those of its numbers grow that do not stay or go by rows; they themselves are those at the graph's sequence.
    """

    name: str
    kind: OperatorKind
    rows: Length
    inner: Size = 1
    outer: Size = 1
    count: Size = 1
    keys: Length = Length()
    heads: Size = 0
    kv_heads: Size = 0
    causal: bool = False
    experts: Size = 0
    top_k: Size = 0
    split: Split = "none"
    entry: bool = False
    parameters: Size = 0
    frozen: Size = 0
    frozen_bytes: Amount = 0.0
    adapter: bool = False
    tied: str = ""
    passes: Amount = 2.0
    saved: tuple[Saved, ...] = ()
    window: Size = 0
    growth: tuple[Growth, ...] = ()

    @property
    def grows(self) -> bool:
        """Whether any number of it grows with the sequence otherwise than by rows."""
        return bool(self.growth) or any(s.growth for s in self.saved)

    def at(self, sequence: int) -> Operator:
        """The same with its numbers at another sequence."""
        if not self.grows:
            return self
        found: dict[str, Any] = {}
        for length in ("rows", "keys"):
            count = value_at(self.growth, length, sequence, 1)
            if count is not None:
                found[length] = Length.through(round(count), sequence)
        for size in ("inner", "outer"):
            width = value_at(self.growth, size, sequence, 1)
            if width is not None:
                found[size] = max(1, round(width))
        rows: int = found.get("rows", self.rows).at(sequence)
        passes = value_at(self.growth, "passes", sequence, rows * found.get("inner", self.inner))
        if passes is not None:
            found["passes"] = round(passes, 2)
        saved = tuple(s.at(sequence, rows) for s in self.saved)
        return msgspec.structs.replace(self, saved=saved, **found)

    @property
    def trained(self) -> int:
        """Elements that are trained."""
        return self.parameters - self.frozen

    @property
    def weight_trained(self) -> bool:
        """Whether backward makes a gradient of the weight (of a bias alone, as in BitFit, it costs nothing)."""
        return not self.frozen or self.trained > self.outer * max(1, self.experts)

    @property
    def divided(self) -> int:
        """The width that column or row splitting divides (of a pointwise operator its only one), else 0."""
        if self.split == "column" and self.kind in ("gemm", "grouped_gemm", "embedding"):
            return self.outer
        return self.inner if self.split in ("column", "row") else 0

    def key_heads(self, tp: int) -> int:
        """Heads of keys and values that ``tp`` ranks hold together: at least one each, fewer are repeated."""
        return max(self.kv_heads or self.heads, tp)

    def misfit(self, tp: int) -> str:
        """Why tensor parallelism of a degree cannot divide attention's heads, or an empty string.

        Key heads are a multiple or a divisor of the degree: fewer are repeated on the ranks that share one (Megatron
        Core, transformer_config.py and attention.py).
        """
        if self.kind != "attention" or self.split != "heads":
            return ""
        keys = self.kv_heads or self.heads
        if self.heads % tp:
            return f"{self.heads} heads of {self.name} do not divide by tp {tp}"
        if keys % tp and tp % keys:
            return f"{keys} key heads of {self.name} do not divide by tp {tp}, nor it by them"
        return ""

    def seen_keys(self, sequence: int) -> float:
        """Keys that a query sees on average, as fused kernels count them: half of them all where it is causal.

        The i-th query of a causal window of w keys sees min(i, w): w - w^2 / 2s of them on average over s queries.
        """
        keys = self.keys.at(sequence)
        if not self.window or self.window >= keys:
            return 0.5 * keys if self.causal else float(keys)
        return self.window * (max(0.5, 1 - self.window / max(1, 2 * self.rows.at(sequence))) if self.causal else 1.0)

    def flops(self, batch: float, sequence: int) -> float:
        """Floating-point operations of one forward pass (a multiply-add is two; attention counted in full)."""
        rows = batch * self.rows.at(sequence)
        if self.kind == "gemm":
            return 2.0 * rows * self.inner * self.outer * self.count
        if self.kind == "grouped_gemm":
            return 2.0 * rows * self.top_k * self.inner * self.outer * self.count
        if self.kind == "attention":
            return 4.0 * rows * self.keys.at(sequence) * self.heads * self.inner * self.count
        return 0.0

    def saved_bytes(self, batch: float, sequence: int, element_bytes: int) -> float:
        """Bytes kept for backward, unsplit and without recomputation."""
        rows = batch * self.rows.at(sequence) * self.count
        return rows * sum(s.width * (s.bytes or element_bytes) for s in self.saved)


class Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A node of the graph: the unit that gets one stage and one strategy.

    ``kind`` is a word for people and executors (embedding, encoder, decoder, patch, merge, head); ``module`` is the
    path of the module in the torch model.
    """

    name: str
    kind: str
    operators: tuple[Operator, ...]
    module: str = ""

    @property
    def parameters(self) -> int:
        """Elements that the layer holds, tied ones included."""
        return sum(op.parameters for op in self.operators)

    @property
    def own_parameters(self) -> int:
        """Elements that no earlier layer holds."""
        return sum(op.parameters for op in self.operators if not op.tied)

    @property
    def trained(self) -> int:
        """Trained elements that no earlier layer holds."""
        return sum(op.trained for op in self.operators if not op.tied)

    def flops(self, batch: float, sequence: int) -> float:
        """Floating-point operations of one forward pass."""
        return sum(op.flops(batch, sequence) for op in self.operators)

    def saved_bytes(self, batch: float, sequence: int, element_bytes: int = 2) -> float:
        """Activation bytes kept for backward on one device without recomputation or tensor parallelism."""
        return sum(op.saved_bytes(batch, sequence, element_bytes) for op in self.operators)

    def signature(self) -> tuple[Operator, ...]:
        """What a cost model may depend on, beside :attr:`ModelGraph.without_backward`: equal ones cost the same."""
        return self.operators


class Flow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An edge: ``source`` feeds ``target`` with one tensor of rows x width elements.

    Edges of one source that carry the same tensor share ``tensor``; it crosses a stage boundary once.
    """

    source: str
    target: str
    tensor: str
    rows: Length
    width: Size

    def elements(self, batch: float, sequence: int) -> float:
        """Elements of the tensor for a batch."""
        return batch * self.rows.at(sequence) * self.width


class Tuning(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What of a model was chosen to be trained, in the words of ``--train`` and ``--freeze``.

    The source of the model knows nothing of it: whoever builds the model from that has to do it again.
    """

    train: str = ""
    freeze: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Pairs of an option and its value."""
        trained = (("train", self.train),) if self.train else ()
        return (*trained, *(("freeze", pattern) for pattern in self.freeze))


class ModelGraph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True, kw_only=True):
    """The document ``uniap.graph/1``: a model's layers and the tensors between them.

    Attributes
    ----------
    family
        Which builder or runtime class it belongs to: llama, gpt, bert, t5, vit, swin, mixtral, or traced.
    sequence
        Positions per sample at which it is planned.
    architecture
        Hyper-parameters by name, for executors and exports.
    source
        Where the torch model comes from: ``zoo:NAME``, ``hf:PATH``, ``package.module:factory``, or empty.
    sequences
        The least and the largest sequence that its shapes hold for; any, where it is not given.
    tuning
        What of it was chosen to be trained (:mod:`uniap_core.tuning`); as its source says, where it is not given.
    """

    schema: Literal["uniap.graph/1"] = "uniap.graph/1"
    name: str
    family: str
    sequence: Positions
    layers: tuple[Layer, ...]
    edges: tuple[Flow, ...]
    architecture: dict[str, int | float | str | bool] = {}
    source: str = ""
    sequences: tuple[int, int] | msgspec.UnsetType = msgspec.UNSET
    tuning: Tuning | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        validate(self)

    @cached_property
    def network(self) -> nx.DiGraph[str]:
        """The networkx DAG: nodes are layer names with attribute ``layer``, edges have ``flows`` (a tuple)."""
        import networkx as nx

        dag: nx.DiGraph[str] = nx.DiGraph(name=self.name)
        dag.add_nodes_from((layer.name, {"layer": layer}) for layer in self.layers)
        for edge in self.edges:
            carried = dag.edges[edge.source, edge.target]["flows"] if dag.has_edge(edge.source, edge.target) else ()
            dag.add_edge(edge.source, edge.target, flows=(*carried, edge))
        return dag

    @property
    def counts_positions(self) -> bool:
        """Whether anything in it grows with the sequence: an image model has no tokens to speak of."""
        return any(op.rows.per_position for layer in self.layers for op in layer.operators)

    def holds_at(self, sequence: int) -> bool:
        """Whether its shapes are known at a sequence length."""
        return self.sequences is msgspec.UNSET or self.sequences[0] <= sequence <= self.sequences[1]

    @property
    def parameters(self) -> int:
        """Elements of the model, tied ones once."""
        return sum(layer.own_parameters for layer in self.layers)

    @property
    def trained(self) -> int:
        """Those of them that are trained."""
        return sum(layer.trained for layer in self.layers)

    @cached_property
    def adapted(self) -> bool:
        """Whether adapters are trained in it."""
        return any(op.adapter for layer in self.layers for op in layer.operators)

    @cached_property
    def without_backward(self) -> frozenset[str]:
        """Layers that no gradient reaches: nothing in them is trained, nor in any layer before them."""
        if not any(op.frozen for layer in self.layers for op in layer.operators):
            return frozenset()
        following: dict[str, list[str]] = {layer.name: [] for layer in self.layers}
        for edge in self.edges:
            following[edge.source].append(edge.target)
        reached = {layer.name: None for layer in self.layers if any(op.trained for op in layer.operators)}
        ready = list(reached)
        for name in ready:
            more = [target for target in following[name] if target not in reached]
            reached |= dict.fromkeys(more)
            ready += dict.fromkeys(more)
        return frozenset(following) - reached.keys()

    def flops(self, batch: float) -> float:
        """Forward floating-point operations for a batch at the graph's sequence length."""
        return sum(layer.flops(batch, self.sequence) for layer in self.layers)

    @cached_property
    def hash(self) -> str:
        """Content hash."""
        return artifact.digest(self)


def read(path: str | os.PathLike[str]) -> ModelGraph:
    """Read a graph file strictly (see :func:`uniap_core.artifact.read` for what it raises)."""
    return artifact.read(path, ModelGraph)


def at_sequence(graph: ModelGraph, sequence: int) -> ModelGraph:
    """The same model at another sequence length (rows that do not depend on it stay).

    Raises
    ------
    BadValue
        If its shapes are not known there: they were traced at one length and do not grow in any known way.
    """
    if sequence == graph.sequence:
        return graph
    if graph.sequences is not msgspec.UNSET and not graph.holds_at(sequence):
        known = " to ".join(map(str, dict.fromkeys(graph.sequences)))
        again = (
            f"uniap trace {graph.source} --seq {sequence} -o {graph.name}.json" if graph.source else "trace it again"
        )
        raise BadValue(
            f"the graph of {graph.name} holds for {known} positions only: how it grows to {sequence} is not known",
            again,
        )
    if not graph.counts_positions:
        raise BadValue(f"model {graph.name} has no sequence: nothing in it grows with one", "leave --seq out")
    layers = tuple(
        msgspec.structs.replace(layer, operators=tuple(op.at(sequence) for op in layer.operators))
        for layer in graph.layers
    )
    return msgspec.structs.replace(graph, sequence=sequence, layers=layers)
