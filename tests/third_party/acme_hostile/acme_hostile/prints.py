"""Prints while it is imported, by every way there is, and works otherwise."""

import ctypes
import os
import sys
from dataclasses import replace

from uniap_core.api import CostModelPlugin, CostTables, Form, ModelGraph, ModelPlugin, SolverPlugin

from .models import tiny
from .solvers import honest

print("hello from the import")
sys.__stdout__.write("hello past the redirection\n")
os.write(1, b"hello from the descriptor\n")
ctypes.CDLL(None).printf(b"hello from C\n")

SOLVER = SolverPlugin(
    name="hostile-prints", summary="prints", takes=Form.PROBLEM, solve="acme_hostile.prints:solve",
    probe="acme_hostile.solvers:probe", bound="acme_hostile.prints:bound", inline=True,
)  # fmt: skip
COST_MODEL = CostModelPlugin(name="hostile-prints", summary="prints", version="1", price="acme_hostile.prints:price")
MODELS = ModelPlugin(
    name="hostile-prints", summary="prints", names="acme_hostile.prints:names", build="acme_hostile.prints:build"
)


def solve(problem, request, emit):
    print("solving")
    return honest(problem, request, emit)


def bound(problem) -> float:
    print("bounding")
    return 0.0


def price(*arguments: object) -> CostTables:
    from uniap_cost_analytic.pricing import price as right

    print("pricing")
    os.write(1, b"pricing\n")
    ctypes.CDLL(None).puts(b"pricing in C")
    return replace(right(*arguments), model="hostile-prints/1")


def names() -> tuple[str, ...]:
    print("naming")
    return ("loud",)


def build(name: str, sequence: int | None) -> ModelGraph:
    print("building")
    return tiny(name, sequence)
