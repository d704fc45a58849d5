"""The page that people read and the contract that imports are held to say the same."""

from __future__ import annotations

import re

import pytest

from tests.architecture.layers import BEGIN, END, PAGE, ROOT, contract, written


def test_the_page_lists_the_layers_of_the_contract():
    page = PAGE.read_text()
    assert page == written(page, contract()["layers"]), "run python -m tests.architecture.layers"


def test_every_module_of_the_core_has_a_layer():
    """lint-imports holds the contract to the tree (exhaustive); this holds the list to both."""
    core = ROOT / "uniap_core"
    modules = {path.stem for path in core.glob("[a-z]*.py")} | {path.parent.name for path in core.glob("*/__init__.py")}
    listed = re.findall(r"\w+", PAGE.read_text().partition(BEGIN)[2].partition("```text")[2].partition("```")[0])
    assert contract()["exhaustive"]
    assert sorted(listed) == sorted(modules - set(contract()["exhaustive_ignores"]))


def test_a_list_that_is_out_of_date_is_found_and_mended():
    stale = f"before\n{BEGIN}\nold\n{END}\nafter"
    fresh = written(stale, ["cli", "plan | verify", "errors"])
    assert fresh != stale
    assert fresh.startswith("before\n")
    assert fresh.endswith("\nafter")
    assert written(fresh, ["cli", "plan | verify", "errors"]) == fresh
    with pytest.raises(SystemExit, match="markers"):
        written("no markers here", [])
