"""The exact solver: ``python -m bench dp [CASE...] [--rivals SECONDS] [--json FILE] [--picture SVG]``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import cases, growth, targets


def main() -> None:
    """Run the cases named, or all but the slow growth curves."""
    known = {
        "chains": cases.chains,
        "passes": cases.passes,
        "graphs": cases.graphs,
        "one-stage": cases.one_stage_cases,
        "sweeps": cases.sweeps,
        "start": cases.start,
        "chunks": lambda: targets.chunks(asked.rivals),
    }
    parser = argparse.ArgumentParser(prog="python -m bench dp", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(known)}, growth")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--picture", type=Path, help="draw the growth curves here")
    parser.add_argument("--rivals", type=float, default=0.0, help="chunks: seconds for other solvers on each problem")
    asked = parser.parse_args()
    for name in asked.cases:
        if name not in {*known, "growth"}:
            parser.error(f"there is no case {name!r}; known: {', '.join(known)}, growth")
    figures = {}
    for name in asked.cases or known:
        figures[name] = growth.run(asked.picture) if name == "growth" else known[name]()
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
