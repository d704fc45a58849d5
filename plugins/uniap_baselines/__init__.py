"""Rival planners as inexact solvers of the same problem, so that their loss against the optimum can be measured."""

from uniap_core.api import Form, SolverPlugin


def _baseline(name: str, summary: str, *, chunks: bool = False) -> SolverPlugin:
    return SolverPlugin(
        name=name,
        summary=summary,
        takes=Form.PROBLEM,
        solve=f"uniap_baselines.methods:{name.replace('-', '_')}",
        probe="uniap_baselines.methods:probe",
        exact=False,
        weights=True,
        chunks=chunks,
        callbacks=True,
        inline=True,
        modules=("numpy",),
        install="pip install uniap",
    )


UNIFORM = _baseline("uniform", "baseline: one strategy for all layers, even stages (a grid search)", chunks=True)
GALVATRON = _baseline(
    "galvatron", "baseline: stages fixed first, then a dynamic program per stage on a memory grid", chunks=True
)
ALPA = _baseline("alpa", "baseline: fastest strategies first, memory afterwards, then the best cuts")
INTER_ONLY = _baseline("inter-only", "baseline: plain data parallelism in every stage, the best cuts")
INTRA_ONLY = _baseline("intra-only", "baseline: one stage, strategies by a dynamic program on a memory grid")

BASELINES = (UNIFORM, GALVATRON, ALPA, INTER_ONLY, INTRA_ONLY)
