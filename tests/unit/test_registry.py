"""Finding plugins: provenance, duplicates, broken ones, and nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from uniap_core import registry
from uniap_core.errors import PluginError, UnknownName


def distribution(folder, name, entries):
    """Write the metadata of an installed distribution: what an entry point is read from."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in rows.items()) for group, rows in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))


PLUGIN = """
from uniap_core.api import Form, SolverPlugin
class Plugin(SolverPlugin): ...
SOLVER = Plugin(name="acme", summary="it", takes=Form.PROBLEM, solve="a:b", probe="a:c")
"""
EMPTY = "class Empty(SolverPlugin):\n    def __len__(self): return 0\nPlugin = Empty"


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.load.cache_clear()
    yield tmp_path
    registry.load.cache_clear()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownName, match="no solver named 'nope'") as caught:
        registry.load("solver", "nope")
    assert "dp" in caught.value.fix


def test_a_close_name_is_suggested():
    with pytest.raises(UnknownName) as caught:
        registry.load("solver", "higs")
    assert "did you mean 'highs'" in caught.value.fix


def test_a_third_party_plugin_is_found_and_loaded(site):
    distribution(site, "acme", {"uniap.solvers": {"acme": "acme_plugin:SOLVER"}})
    (site / "acme_plugin.py").write_text(PLUGIN)
    row = next(row for row in registry.listing("solver") if row.name == "acme")
    assert row.distribution == "acme"
    assert registry.load("solver", "acme").summary == "it"


def test_a_falsy_plugin_object_is_returned_as_it_is(site):
    distribution(site, "empty", {"uniap.solvers": {"empty": "empty_plugin:SOLVER"}})
    (site / "empty_plugin.py").write_text(PLUGIN.replace("class Plugin(SolverPlugin): ...", EMPTY))
    assert type(registry.load("solver", "empty")).__name__ == "Empty"


def test_duplicates_are_reported_and_cannot_be_chosen(site):
    distribution(site, "one", {"uniap.solvers": {"twin": "one_plugin:SOLVER"}})
    distribution(site, "two", {"uniap.solvers": {"zz": "x:y", "twin": "two_plugin:SOLVER"}})
    row = next(row for row in registry.listing("solver") if row.name == "twin")
    assert "one, two" in row.problem
    assert "twin" not in registry.names("solver")
    with pytest.raises(PluginError, match="2 distributions claim"):
        registry.load("solver", "twin")


def test_a_broken_plugin_is_its_own_problem(site):
    distribution(site, "broken", {"uniap.solvers": {"broken": "broken_plugin:SOLVER"}})
    (site / "broken_plugin.py").write_text("import a_module_that_does_not_exist\n")
    with pytest.raises(PluginError, match=r"'broken'.*does not load.*a_module_that_does_not_exist"):
        registry.load("solver", "broken")
    assert registry.load("solver", "dp").name == "dp"


def test_listing_imports_no_plugin():
    code = (
        "import sys; from uniap_core import registry\n"
        "[registry.listing(kind) for kind in registry.GROUPS]\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('numba', 'torch', 'highspy', 'stevedore') "
        "or m.startswith('uniap_') and not m.startswith('uniap_core')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_target_that_does_not_resolve_is_named():
    with pytest.raises(PluginError, match="does not import"):
        registry.resolve("no_such_module:f")
    with pytest.raises(PluginError, match="no attribute 'nothing'"):
        registry.resolve("json:nothing")


@pytest.mark.parametrize(
    "at_import", ["import sys; sys.exit(3)", "raise KeyError('x')", "class E(BaseException): ...\nraise E"]
)
def test_whatever_an_import_does_is_the_plugins_fault(site, at_import):
    distribution(site, "rude", {"uniap.solvers": {"rude": "rude_plugin:SOLVER"}})
    (site / "rude_plugin.py").write_text(at_import)
    with pytest.raises(PluginError, match=r"'rude'.*does not load"):
        registry.load("solver", "rude")
    with pytest.raises(PluginError, match="importing rude_plugin"):
        registry.resolve("rude_plugin:f")
    found, broken = registry.working("solver")
    assert "dp" in {plugin.name for plugin in found}
    assert ["rude" in error.cause for error in broken] == [True]


def test_ctrl_c_is_the_users(site):
    (site / "slow_plugin.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        registry.resolve("slow_plugin:f")
