"""Solve one small problem by each way of ``dp`` and print the seconds of each, in JSON."""

from __future__ import annotations

import json
import time

import numba  # noqa: F401  # its import is not what is measured
from uniap_dp.solve import solve

from uniap_core.api import SolveRequest, silent

from .problems import Shape, chain, encoder_decoder


def main() -> None:
    row, graph = chain(Shape(6, 2, 3)), encoder_decoder(Shape(6, 2, 3))
    cases = [
        ("short chains", row, {}),
        ("lattices", row, {"max_steps": 0}),
        ("depth-first search", graph, {"max_steps": 0}),
    ]
    seconds = {}
    for way, problem, options in cases:
        began = time.perf_counter()
        solve(problem, SolveRequest(options=options), silent)
        seconds[way] = time.perf_counter() - began
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
