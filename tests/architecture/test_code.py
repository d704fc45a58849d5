"""Rules that code keeps everywhere, read from the source. Import contracts are in pyproject.toml (lint-imports)."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from uniap_core import errors

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("uniap_core", "plugins", "model_zoo") for path in (ROOT / folder).rglob("*.py"))
MODULE_LINES, FUNCTION_LINES = 480, 75
HEAVY = ("torch", "numba", "transformers", "matplotlib", "highspy", "pyscipopt", "pulp", "ortools", "gurobipy", "scipy")


def named(path):
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path):
    return ast.parse(path.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_modules_and_functions_stay_small(path):
    """Past that, look for the missing noun."""
    assert len(path.read_text().splitlines()) <= MODULE_LINES
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno - len((ast.get_docstring(node, clean=False) or "").splitlines())
            assert lines <= FUNCTION_LINES, f"{node.name} has {lines} lines"


def test_no_module_is_named_for_leftovers():
    leftovers = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "base", "misc"}
    assert not [named(path) for path in SOURCES if leftovers & {path.stem, path.parent.name}]


SHARES_DEVICES = {
    "uniap_core/pipeline.py",
    "uniap_core/verify/devices.py",  # the verifier computes everything itself
}
"""Where it may be known how devices are shared among the ranks of a pipeline."""


def terminal(node):
    """The last name of an expression: ``devices`` of ``plan.cluster.devices``, ``size`` of ``world.size()``."""
    if isinstance(node, ast.Call):
        return terminal(node.func)
    return getattr(node, "attr", getattr(node, "id", ""))


def shares_devices(node):
    """True for ``devices // pp`` and its like."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv)):
        return False
    whole, parts = terminal(node.left), terminal(node.right)
    of_a_world = whole in ("devices", "total", "world", "world_size", "get_world_size")
    return (of_a_world and parts in ("pp", "depth", "stages", "pipeline")) or (whole, parts) == ("devices", "ranks")


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_only_a_pipeline_knows_how_devices_are_shared_among_ranks(path):
    """``Pipeline.devices_per_rank`` and ``Pipeline.block`` say it."""
    found = [node.lineno for node in ast.walk(tree(path)) if shares_devices(node)]
    assert not found or named(path) in SHARES_DEVICES, f"lines {found}: ask the pipeline"


@pytest.mark.parametrize(
    "text",
    ["cluster.devices // candidate.pp", "self.devices // depth", "total // depth", "dist.get_world_size() // depth"],
)
def test_sharing_devices_is_recognized(text):
    assert any(map(shares_devices, ast.walk(ast.parse(text))))


OWN_CACHE = "plugins/uniap_dp/jit.py"
"""Reads machine code that it compiled itself, from folders whose owner and mode numba or it has checked."""


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_nothing_executes_what_it_reads(path):
    """Files of other people are data: no pickle, no eval, no shell."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import) and named(path) != OWN_CACHE:
            assert not {alias.name for alias in node.names} & {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
        if isinstance(node, ast.ImportFrom) and node.module == "pickle":
            # Torch's index of a checkpoint is a pickle: an unpickler may be derived that says what it may name.
            assert {alias.name for alias in node.names} <= {"Unpickler", "UnpicklingError"}
        elif isinstance(node, ast.ImportFrom):
            assert node.module not in ("marshal", "shelve", "dill", "cloudpickle")
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Unpickler" for base in node.bases):
            assert "find_class" in {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) != "Unpickler", f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), f"line {node.lineno}"
        if isinstance(node, ast.Call):
            shell = [k for k in node.keywords if k.arg == "shell" and getattr(k.value, "value", True)]
            assert not shell, f"line {node.lineno}"


def test_only_the_registry_reads_entry_points():
    for path in SOURCES:
        if named(path) == "uniap_core/registry.py":
            continue
        for node in ast.walk(tree(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = getattr(node, "module", "") or ""
            assert "stevedore" not in (module, *names), named(path)
            if module == "importlib.metadata":
                assert "entry_points" not in names, named(path)


DEGREES = {"tp", "cp", "dp", "ep", "etp", "edp"}
ARRANGE = {
    "uniap_core/axes.py": "the one account",
    "uniap_core/estimate/plan.py": "completes the degrees of a published row, before there is a strategy",
}
"""Modules that may compute with degrees how ranks are arranged, beside the verifier with an account of its own."""


def degrees(node):
    """Degrees among the factors of a product."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return degrees(node.left) + degrees(node.right)
    return int(getattr(node, "attr", getattr(node, "id", "")) in DEGREES)


def arrangements(code):
    """Expressions that say where ranks lie: products of degrees (strides, sizes), and ranks divided by degrees."""
    for node in ast.walk(code):
        if not isinstance(node, ast.BinOp):
            continue
        apart = isinstance(node.op, ast.FloorDiv | ast.Mod) and degrees(node.right) and "rank" in ast.unparse(node.left)
        if apart or degrees(node) > 1:
            yield ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_how_ranks_are_arranged_is_written_once(path):
    if named(path) not in ARRANGE and "verify" not in path.parts:
        assert not list(arrangements(tree(path))), "read uniap_core.axes"


@pytest.mark.parametrize("code", ["s.tp * s.cp", "2 * tp * x * ep", "rank // (tp * cp)", "get_rank() % self.tp"])
def test_arrangements_are_recognised(code):
    assert list(arrangements(ast.parse(code)))
    assert not list(arrangements(ast.parse("micro_batch // s.dp + heads % tp * 2 + rows * cut.ep")))


@pytest.mark.parametrize(
    "code",
    [
        "import uniap_core.api",
        "import uniap",
        "from uniap_core import registry; [registry.load('solver', n) for n in registry.names('solver')]",
        "from uniap_core import registry; [registry.load('executor', n) for n in registry.names('executor')]",
        "from uniap_core import registry; [registry.load('cost model', n) for n in registry.names('cost model')]",
        "from uniap_core import registry; [registry.load('model', n) for n in registry.names('model')]",
        "import uniap_core.compare",
    ],
)
def test_importing_and_listing_load_nothing_heavy(code):
    check = f"{code}; import sys; print(' '.join(sorted(set({HEAVY!r}) & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_every_error_has_a_code_of_its_own():
    found = [errors.UniapError]
    for kind in found:
        found += kind.__subclasses__()
    own = [kind for kind in found if kind.__module__ == errors.__name__]
    assert len({kind.code for kind in own}) == len(own)
    # After a signal a command ends with 128 and its number (docs/formats.md).
    assert all(kind.exit_code in (1, 2, 3) or kind is errors.Stopped for kind in own)
    assert all(kind.__doc__ for kind in own)
