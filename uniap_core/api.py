"""The public face for plugins: everything that a solver, cost model, executor or model plugin may import."""

from __future__ import annotations

from . import modules, warden
from .architecture import (
    ANY,
    ENTRIES,
    ROTARY_FIELDS,
    SCALE_FIELDS,
    SHAPES,
    Entry,
    Value,
    beyond,
    complete,
    idle,
    mistyped,
)
from .artifact import decode, digest, encode, read, write, write_text
from .axes import Grid, Grids, Groups, Layout, Span, arrange
from .caches import folder as cache_folder
from .cluster import Cluster, Node
from .costs import (
    MEMORY_PARTS,
    TIME_PARTS,
    Calibration,
    Candidate,
    CostModelPlugin,
    CostTables,
    Fit,
    LayerCosts,
    MeasuredRun,
    Price,
    Training,
    check_candidate,
    divide_batch,
    identity,
    pipeline_ranks,
)
from .devices import Device, Link
from .errors import (
    BadFile,
    BadValue,
    Inexpressible,
    Infeasible,
    LaunchFailed,
    NotEnoughTime,
    PluginError,
    SolverFailed,
    UniapError,
    UnknownName,
    Unverified,
    UsageError,
)
from .events import Emit, Event, Incumbent, Note, Progress, silent
from .execute import Capability, ExecutorPlugin, Job, RankLayout, RunReport, StageReport, admit, rank_layout
from .graph import LONGEST, TOKENS, Flow, Layer, Length, ModelGraph, Operator, Saved
from .growth import Growth, GrowthField, value_at
from .menus import extent_of, extents, runs_along
from .models import Hyperparameters, Kernels, ModelPlugin
from .operators import per_row
from .pipeline import Pipeline
from .plan import Plan, check_seal
from .plan import read as read_plan
from .plan import write as write_plan
from .posing import pose
from .precisions import PRECISIONS, Precision, precision
from .problem import (
    MEMORY_TOLERANCE,
    Assignment,
    Evaluation,
    Problem,
)
from .profile import Collective, CollectiveTiming, LayerTiming, Profile
from .program.ir import Program
from .proposal import LayerPlan, Prediction, Proposal, StagePlan
from .quoting import cell, line, literal, shell, toml_key
from .solve.plugin import Form, SolverPlugin
from .solve.request import SolveRequest
from .solve.result import Found, RawResult, Result, Stop
from .strategy import AXES, Axis, Extent, Strategy, StrategySpace, divisors
from .tables import EdgeTable, Kinds, LayerTable, Rank, Weights, numbered
from .trust import allow as allow_source
from .trust import check as check_source

__all__ = [
    "modules",
    "LONGEST",
    "ANY",
    "ENTRIES",
    "ROTARY_FIELDS",
    "SCALE_FIELDS",
    "SHAPES",
    "Entry",
    "Value",
    "beyond",
    "complete",
    "idle",
    "mistyped",
    "AXES",
    "Axis",
    "Grid",
    "Grids",
    "Groups",
    "Layout",
    "Span",
    "arrange",
    "Extent",
    "extent_of",
    "runs_along",
    "extents",
    "MEMORY_PARTS",
    "MEMORY_TOLERANCE",
    "TIME_PARTS",
    "StageReport",
    "RunReport",
    "RankLayout",
    "Job",
    "StagePlan",
    "Proposal",
    "Prediction",
    "LayerPlan",
    "admit",
    "rank_layout",
    "check_seal",
    "Plan",
    "Assignment",
    "BadFile",
    "BadValue",
    "Calibration",
    "Candidate",
    "Capability",
    "Cluster",
    "Collective",
    "CollectiveTiming",
    "CostModelPlugin",
    "CostTables",
    "Device",
    "EdgeTable",
    "Emit",
    "Evaluation",
    "Event",
    "ExecutorPlugin",
    "Fit",
    "Flow",
    "Found",
    "Form",
    "Growth",
    "GrowthField",
    "Hyperparameters",
    "Incumbent",
    "Inexpressible",
    "Infeasible",
    "LaunchFailed",
    "Kernels",
    "Layer",
    "LayerCosts",
    "LayerTable",
    "LayerTiming",
    "Length",
    "Link",
    "MeasuredRun",
    "ModelGraph",
    "ModelPlugin",
    "Node",
    "NotEnoughTime",
    "Note",
    "Operator",
    "PRECISIONS",
    "PluginError",
    "Precision",
    "precision",
    "Price",
    "Problem",
    "Profile",
    "Program",
    "Progress",
    "RawResult",
    "Result",
    "Saved",
    "SolveRequest",
    "SolverFailed",
    "SolverPlugin",
    "Pipeline",
    "Rank",
    "Weights",
    "Kinds",
    "Stop",
    "Strategy",
    "StrategySpace",
    "TOKENS",
    "Training",
    "UniapError",
    "UnknownName",
    "Unverified",
    "UsageError",
    "check_candidate",
    "decode",
    "digest",
    "divide_batch",
    "divisors",
    "encode",
    "identity",
    "read",
    "read_plan",
    "silent",
    "numbered",
    "per_row",
    "pose",
    "pipeline_ranks",
    "value_at",
    "warden",
    "write",
    "write_plan",
    "write_text",
    "allow_source",
    "cache_folder",
    "cell",
    "check_source",
    "line",
    "literal",
    "shell",
    "toml_key",
]
