"""The model as a DAG of layers, each a list of operators with their shapes.

Counts are per sample and symbolic in the sequence length, so parameters are numbers and FLOPs and activation
bytes are functions of batch and sequence. A cost model reads shapes; it never sees model code.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal

import msgspec

from . import artifact
from .errors import BadValue
from .limits import Positions, Size
from .operators import TOKENS, Length, Operator, OperatorKind, Saved, Split
from .wellformed import validate

if TYPE_CHECKING:
    import os

    import networkx as nx

__all__ = [
    "LONGEST",
    "TOKENS",
    "Flow",
    "Layer",
    "Length",
    "ModelGraph",
    "Operator",
    "OperatorKind",
    "Saved",
    "Split",
    "Tuning",
    "at_sequence",
    "read",
    "validate",
]

LONGEST = 10**10
"""The largest sequence of a graph that holds for any from its least on."""


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
        The least and the largest sequence that its shapes hold for (:data:`LONGEST`: no bound); any, if not given.
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
    def active_parameters(self) -> int:
        """Those of them that one token visits: of experts the share that it is sent to."""
        operators = (op for layer in self.layers for op in layer.operators if not op.tied)
        return sum(op.parameters * op.top_k // op.experts if op.experts else op.parameters for op in operators)

    @property
    def trained(self) -> int:
        """Those of them that are trained."""
        return sum(layer.trained for layer in self.layers)

    @property
    def chosen(self) -> tuple[tuple[str, str], ...]:
        """Options, with their values, that chose what is trained; none where it is as the source says."""
        return () if self.tuning is msgspec.UNSET else self.tuning.options

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
        least, most = graph.sequences
        known = f"{least if least == most else f'{least} to {most}'} positions"
        if most >= LONGEST:
            known = f"{least} positions or more"
        again = (
            f"uniap trace {graph.source} --seq {sequence} -o {graph.name}.json" if graph.source else "trace it again"
        )
        raise BadValue(
            f"the graph of {graph.name} holds for {known} only: how it grows to {sequence} is not known",
            again,
        )
    if not graph.counts_positions:
        raise BadValue(f"model {graph.name} has no sequence: nothing in it grows with one", "leave --seq out")
    layers = tuple(
        msgspec.structs.replace(layer, operators=tuple(op.at(sequence) for op in layer.operators))
        for layer in graph.layers
    )
    return msgspec.structs.replace(graph, sequence=sequence, layers=layers)
