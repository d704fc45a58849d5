"""The list of layers in docs/architecture.md, from the import contract: ``python -m tests.architecture.layers``."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- layers of pyproject.toml, written by python -m tests.architecture.layers -->"
END = "<!-- end of layers -->"


def contract() -> dict:
    """The contract of import-linter that orders the modules of the core."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = (table for table in tables if table["type"] == "layers" and table["containers"] == ["uniap_core"])
    return found


def block(layers: list[str]) -> str:
    """The list as Markdown, a line per layer, the lowest last."""
    return "\n".join([BEGIN, "", "```text", *layers, "```", "", END])


def written(page: str, layers: list[str]) -> str:
    """A page with the list between its markers brought up to date."""
    before, found, rest = page.partition(BEGIN)
    _, ends, after = rest.partition(END)
    if not found or not ends:
        raise SystemExit(f"{PAGE} lacks its markers: {BEGIN} ... {END}")
    return before + block(layers) + after


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), contract()["layers"]))
