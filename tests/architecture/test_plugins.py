"""Adding a plugin is adding a folder, and everything that goes with it: none of it can be forgotten.

For a solver: folder = entry point = extra = row of the README = tox environment = job in the workflow = kit test.
"""

import re
import tomllib
from itertools import product
from pathlib import Path

import pytest

from uniap_core import registry
from uniap_core.execute import ExecutorPlugin
from uniap_core.solve.plugin import SolverPlugin

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENTRIES = {group: dict(entries) for group, entries in PROJECT["entry-points"].items()}
SOLVERS = {name: registry.load("solver", name) for name in ENTRIES["uniap.solvers"]}
EXACT = [name for name, plugin in SOLVERS.items() if plugin.exact]
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
CONFORMANCE = {path.name: path.read_text() for path in (ROOT / "tests" / "conformance").glob("test_kit_*.py")}


def environments():
    """Names of all tox environments, generative names written out."""
    text = (ROOT / "tox.ini").read_text()
    listed = re.search(r"^env_list =\n((?:    .*\n)+)", text, re.MULTILINE)[1].split()
    return {
        name for row in [*listed, *re.findall(r"^\[testenv:(.+)\]$", text, re.MULTILINE)] for name in written_out(row)
    }


def written_out(name):
    parts = [part.split(",") if n % 2 else [part] for n, part in enumerate(re.split(r"[{}]", name))]
    return {"".join(choice) for choice in product(*parts)}


def packages(group):
    return {target.partition(":")[0].partition(".")[0] for target in ENTRIES[group].values()}


FOLDERS = {path.parent.name for root in ("plugins", "model_zoo") for path in (ROOT / root).glob("*/__init__.py")}


def test_every_folder_has_an_entry_point_and_every_entry_point_a_folder():
    targets = {package for group in ENTRIES for package in packages(group)}
    # The face for users is no plugin: it stands beside them because they share a source root.
    assert targets == FOLDERS - {"uniap"}


def test_every_package_is_typed_layered_and_counted():
    """Each tool lists packages in its own way; none of the lists may forget one."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    packages = FOLDERS | {"uniap_core"}
    assert set(tools["mypy"]["packages"]) == packages
    assert set(tools["importlinter"]["root_packages"]) == packages
    assert set(tools["coverage"]["run"]["source_pkgs"]) == packages
    contracts = {contract["name"]: contract for contract in tools["importlinter"]["contracts"]}
    plugins = packages - {"uniap", "uniap_core"}
    assert plugins <= set(contracts["the core knows no plugin, no solver, no torch and no numba"]["forbidden_modules"])
    assert plugins == set(contracts["plugins do not know each other"]["modules"])
    assert plugins - {"uniap_zoo"} == set(contracts["plugins see the public face alone"]["source_modules"])


def test_the_core_names_no_package_of_a_plugin():
    """What plugins do is declared in their descriptors; a module path in the core would be an import in disguise."""
    names = re.compile(rf"\b({'|'.join(sorted(FOLDERS - {'uniap'}))}|model_zoo)\b")
    sources = [path for path in (ROOT / "uniap_core").rglob("*") if path.suffix in (".py", ".toml")]
    assert len(sources) > 50
    found = {path.relative_to(ROOT).as_posix(): names.findall(path.read_text()) for path in sources}
    assert not {path: named for path, named in found.items() if named}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_says_its_own_name(name):
    assert isinstance(SOLVERS[name], SolverPlugin)
    assert SOLVERS[name].name == name


@pytest.mark.parametrize("name", EXACT)
def test_an_exact_solver_has_a_folder_an_extra_a_row_an_environment_a_job_and_a_test(name):
    plugin = SOLVERS[name]
    assert ENTRIES["uniap.solvers"][name] == f"uniap_{name}:SOLVER"
    if name != "dp":  # built in
        assert name in PROJECT["optional-dependencies"]
        assert plugin.install == f"pip install 'uniap[{name}]'"
        assert plugin.modules
    assert f"| `{name}` |" in (ROOT / "README.md").read_text()
    wanted = {f"{python}solver-{name}" for python in ("", "py311-", "py312-", "py313-")}
    assert wanted <= environments()
    assert name in re.search(r"solver: \[(.*)\]", WORKFLOW)[1].split(", ")
    assert f'solver = "{name}"' in CONFORMANCE[f"test_kit_{name}.py"]


def test_every_free_solver_is_in_the_extra_that_installs_them_all():
    (everything,) = PROJECT["optional-dependencies"]["solvers"]
    assert set(re.search(r"\[(.*)\]", everything)[1].split(",")) == set(EXACT) - {"dp", "gurobi"}


@pytest.mark.parametrize(
    ("group", "attribute"),
    [("uniap.solvers", "solver"), ("uniap.cost_models", "cost_model"), ("uniap.executors", "executor")],
)
def test_every_plugin_is_held_to_the_kit(group, attribute):
    tested = {name for text in CONFORMANCE.values() for name in re.findall(rf'{attribute} = "([^"]+)"', text)}
    assert tested == set(ENTRIES[group])


@pytest.mark.parametrize("name", ENTRIES["uniap.executors"])
def test_an_executor_has_a_row_an_environment_and_a_job(name):
    plugin = registry.load("executor", name)
    assert isinstance(plugin, ExecutorPlugin)
    assert plugin.name == name
    assert f"`{name}`" in (ROOT / "README.md").read_text()
    assert f"executor-{name}-cpu" in environments()
    assert name in re.search(r"executor: \[(.*)\]", WORKFLOW)[1].split(", ")


def test_every_environment_of_the_workflow_exists():
    named = re.search(r"env: \[(.*)\]", WORKFLOW)[1].split(", ")
    named += [name for row in re.findall(r"run: tox -e ([\w,-]+)$", WORKFLOW, re.MULTILINE) for name in row.split(",")]
    assert set(named) <= environments()
    assert {"solver-all", "verifier", "executor-fsdp-gpu", "executor-megatron-gpu"} <= set(named)


def test_the_gpu_job_solves_then_verifies_then_executes():
    job = WORKFLOW[WORKFLOW.index("\n  gpu:") :]
    steps = re.findall(r"run: tox -e ([\w,-]+)$", job, re.MULTILINE)
    assert [step.split(",")[0].split("-")[0] for step in steps] == ["solver", "verifier", "executor"]
    assert "self-hosted" in job
    assert set(steps[0].split(",")) == {*(f"solver-{name}" for name in EXACT), "solver-all"}


def test_the_gate_runs_the_checks_of_the_workflow_before_the_tests():
    """``make test`` is the gate (.ci/run); what CI runs without a solver or a device, it runs too."""
    makefile = (ROOT / "Makefile").read_text()
    needs = re.search(r"^test: (.*)$", makefile, re.MULTILINE)[1].split()
    assert {"lint", "types", "arch", "docs"} <= set(needs) & environments()
    for check in ("lint", "types", "arch", "docs"):
        recipe = re.search(rf"^{check}: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
        commands = [line.split("/", 1)[1].split() for line in recipe.splitlines()]
        table = re.search(rf"^\[testenv:{check}\]\n(.*?)(?=^\[|\Z)", (ROOT / "tox.ini").read_text(), re.M | re.S)[1]
        assert all(" ".join(command) in " ".join(table.split()) for command in commands)
