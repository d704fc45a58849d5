"""uniap from Python: plan, solve, compare, verify.

>>> import uniap
>>> best = uniap.plan("bert-huge", "8xV100-32G", batch=32)
>>> best.plan.pp, best.proven
(1, True)

Importing this module is cheap: what a function needs is imported when it is called.
"""

from __future__ import annotations

# Type checkers take the name for true; importing typing would cost ten times what this module does.
TYPE_CHECKING = False

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from uniap_core.cluster import Cluster
    from uniap_core.compare import Comparison
    from uniap_core.costs import Loss, States
    from uniap_core.events import Emit
    from uniap_core.graph import ModelGraph
    from uniap_core.plan import Plan
    from uniap_core.problem import Assignment, Problem
    from uniap_core.profile import Profile
    from uniap_core.search import Sweep
    from uniap_core.solve.result import Result
    from uniap_core.system import Attention
    from uniap_core.verify.verdict import Verdict

    __version__: str

__all__ = ["__version__", "compare", "plan", "problem", "solve", "verify"]


def plan(
    model: str | ModelGraph,
    cluster: str | Cluster,
    batch: int,
    *,
    seq: int | None = None,
    tokens_per_device: int | None = None,
    precision: str | None = None,
    optimizer: str = "adamw",
    states: States = "mixed",
    loss: Loss = "whole",
    train: str | None = None,
    freeze: Sequence[str] = (),
    imbalance: float = 1.0,
    margin: float = 0.06,
    schedule: str = "",
    solver: str = "dp",
    cost_model: str = "analytic",
    profile: Profile | str | os.PathLike[str] | None = None,
    executor: str | None = None,
    system: str | None = None,
    attention: Attention | None = None,
    pins: Sequence[str] = (),
    top: int = 1,
    time_limit: float | None = None,
    gap: float = 1e-9,
    workers: int = 1,
    emit: Emit | None = None,
) -> Sweep:
    """Find the fastest plan, prove it and verify it.

    Parameters
    ----------
    model
        A zoo name, graph file, ``hf:`` config, ``package.module:factory``, or a graph.
    cluster
        A preset ("4x8xH100-80G"), a TOML file, or a cluster.
    batch
        Samples per iteration over all devices.
    seq
        Positions per sample (default: the model's own).
    tokens_per_device
        Tokens that every device packs documents of ``seq`` positions to, a pack in every micro-batch; ``batch`` counts
        documents then.
    precision
        bf16, fp16, fp32, tf32, fp8, fp8-delayed, fp8-tensorwise, fp8-blockwise, mxfp8 or nvfp4 (default: the best of
        16 bits and more that the devices have).
    optimizer
        adamw, adam, sgd, adamw-8bit or adam-8bit.
    states
        ``mixed``: fp32 moments, gradients and master weights; ``bf16-moments``; ``bf16``: all of them in bf16.
    loss
        ``whole`` or ``chunked`` logits.
    train
        ``"lora:r=16,targets=q_proj+v_proj"``, ``"qlora"``: adapters beside frozen weights (default: all parameters).
    freeze
        Patterns of layers or modules that are left as they are: ``"vision_tower.*"``.
    imbalance
        Rows of the expert-parallel rank that is sent most of them, over the mean (1: routing is even).
    margin
        Share of a device's memory that is left free.
    schedule
        By name; ``auto`` for 1f1b and interleaved with every number of chunks, ``any`` for all (default: as the command
        line's).
    solver, cost_model
        By name.
    profile
        Measurements of ``uniap profile``, or their file.
    executor
        Narrow the plan to what this executor can run; its software is what is priced.
    system
        Price other software: megatron, nemo, deepspeed, fsdp, torchtitan, ... (as estimate's column of that name).
    attention
        ``eager`` or ``fused`` (default: what the software does; of traced models, what was traced).
    pins
        What is fixed: ``"pp=4"``, ``"tp<=4"``, ``"layers.0-15:recompute=full"``, ``"uniform"``.
    top
        How many of the best candidates to solve to their own optimum.
    time_limit
        Wall seconds; what is open then is reported with its bound.
    gap
        Relative gap at which a candidate counts as solved.
    workers
        Processes that solve candidates side by side.
    emit
        A function that takes progress events.

    Returns
    -------
    Sweep
        ``.plan`` is the answer, ``.proof`` has a record per candidate, ``.proven`` says whether all are closed. In a
        notebook it shows itself as a report.

    Raises
    ------
    uniap_core.errors.UniapError
        With cause and remedy: unknown names, bad values, infeasible (says what would make it fit).
    """
    from uniap_core.events import silent
    from uniap_core.report.notebook import shown
    from uniap_core.search import make, sweep

    tell = emit or silent
    search = make(
        model,
        cluster,
        batch,
        seq=seq,
        tokens_per_device=tokens_per_device,
        precision=precision,
        optimizer=optimizer,
        states=states,
        loss=loss,
        train=train,
        freeze=freeze,
        imbalance=imbalance,
        margin=margin,
        schedule=schedule,
        solver=solver,
        cost_model=cost_model,
        profile=profile,
        executor=executor,
        system=system,
        attention=attention,
        pins=pins,
        top=top,
        time_limit=time_limit,
        gap=gap,
        workers=workers,
        emit=tell,
    )
    return shown(sweep(search, tell))


def problem(
    model: str | ModelGraph,
    cluster: str | Cluster,
    batch: int,
    *,
    pp: int,
    micro_batches: int,
    vpp: int = 1,
    seq: int | None = None,
    tokens_per_device: int | None = None,
    precision: str | None = None,
    optimizer: str = "adamw",
    states: States = "mixed",
    loss: Loss = "whole",
    train: str | None = None,
    freeze: Sequence[str] = (),
    imbalance: float = 1.0,
    margin: float = 0.06,
    schedule: str = "",
    cost_model: str = "analytic",
    profile: Profile | str | os.PathLike[str] | None = None,
    executor: str | None = None,
    system: str | None = None,
    attention: Attention | None = None,
    pins: Sequence[str] = (),
) -> Problem:
    """The cost tables of one candidate as a problem, for any solver (parameters as for :func:`plan`)."""
    from uniap_core.costs import Candidate, check_candidate, check_legal
    from uniap_core.pipeline import placing
    from uniap_core.posing import pose
    from uniap_core.search import make, price

    search = make(
        model,
        cluster,
        batch,
        seq=seq,
        tokens_per_device=tokens_per_device,
        precision=precision,
        optimizer=optimizer,
        states=states,
        loss=loss,
        train=train,
        freeze=freeze,
        imbalance=imbalance,
        margin=margin,
        schedule=schedule,
        cost_model=cost_model,
        profile=profile,
        executor=executor,
        system=system,
        attention=attention,
        pins=pins,
    )
    candidate = Candidate.of(pp, micro_batches, search.training, placing(search.schedules, vpp), vpp)
    check_legal(candidate)
    check_candidate(search.cluster, candidate)
    return pose(price(search, candidate))


def solve(
    posed: Problem | str,
    solver: str = "dp",
    *,
    time_limit_s: float | None = None,
    gap: float = 1e-9,
    threads: int = 1,
    seed: int = 0,
    memory_limit_bytes: int | None = None,
    cutoff_s: float | None = None,
    warm_start: Assignment | None = None,
    log_path: str | None = None,
    options: Mapping[str, bool | int | float | str] | None = None,
) -> Result:
    """Solve one problem (or problem file) by any solver.

    Parameters
    ----------
    time_limit_s, gap, threads, seed, memory_limit_bytes, cutoff_s, warm_start, log_path, options
        As in :class:`~uniap_core.solve.request.SolveRequest`.
    """
    from uniap_core.solve import driver
    from uniap_core.solve.request import SolveRequest

    request = SolveRequest(
        time_limit_s=time_limit_s,
        gap=gap,
        threads=threads,
        seed=seed,
        memory_limit_bytes=memory_limit_bytes,
        cutoff_s=cutoff_s,
        warm_start=warm_start,
        log_path=log_path,
        options=dict(options or {}),
    )
    return driver.solve(_posed(posed), solver, request)


def compare(
    problems: Problem | str | Sequence[Problem | str],
    solvers: Sequence[str] = (),
    *,
    time_limit_s: float | None = None,
    gap: float = 1e-9,
    threads: int = 1,
    seed: int = 0,
    memory_limit_bytes: int | None = None,
) -> Comparison:
    """Solve the same problems by many solvers side by side (all installed ones by default).

    Parameters
    ----------
    time_limit_s, gap, threads, seed, memory_limit_bytes
        For each solve, as in :class:`~uniap_core.solve.request.SolveRequest`.
    """
    from uniap_core import compare as comparison
    from uniap_core.problem import Problem
    from uniap_core.solve.request import SolveRequest

    many = [problems] if isinstance(problems, str | Problem) else list(problems)
    request = SolveRequest(
        time_limit_s=time_limit_s, gap=gap, threads=threads, seed=seed, memory_limit_bytes=memory_limit_bytes
    )
    return comparison.compare([_posed(one) for one in many], tuple(solvers) or comparison.installed(), request)


def verify(
    subject: Plan | str | os.PathLike[str],
    *,
    profile: Profile | None = None,
    cross_check_by: str | None = None,
    time_limit_s: float | None = None,
    tolerance: float | None = None,
) -> Verdict:
    """Judge a plan (or plan file) by code that is independent of every solver.

    Parameters
    ----------
    profile
        The measurements that it was priced from, if any.
    cross_check_by
        A solver that must not find anything better, within ``time_limit_s``.
    tolerance
        Relative difference of closed form and simulation that may be; ``None`` allows what theory explains.
    """
    from uniap_core.plan import Plan, read
    from uniap_core.search import verify_plan

    return verify_plan(
        subject if isinstance(subject, Plan) else read(subject),
        profile=profile,
        cross_check_by=cross_check_by,
        time_limit_s=time_limit_s,
        tolerance=tolerance,
    )


def _posed(posed: Problem | str) -> Problem:
    if isinstance(posed, str):
        from uniap_core.problem import read

        return read(posed)
    return posed


if not TYPE_CHECKING:

    def __getattr__(name: str) -> str:
        if name == "__version__":
            from uniap_core.registry import version

            return version()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
