"""The wheel as others install it: what it puts into site-packages, and what a type checker sees of it there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

USER = """\
import uniap

reveal_type(uniap.plan("x", "y", batch=1))
reveal_type(uniap.__version__)
uniap.plan("x", "y", batch="1", sequence=3)
uniap.plans("x")
"""

# Looking for the module pip instead would start setuptools' import hooks, which warn.
HAS_PIP = any(distributions(name="pip"))


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, made by pip or uv, whichever is here."""
    folder = tmp_path_factory.mktemp("wheel")
    if HAS_PIP:
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    else:
        run(shutil.which("uv") or "uv", "build", "--quiet", "--wheel", "--out-dir", folder, ROOT)
    (found,) = folder.glob("uniap-*.whl")
    return found


def test_it_brings_no_name_that_others_may_want(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    (metadata,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    top = {name.partition("/")[0] for name in names} - {metadata}
    assert {"uniap", "uniap_core", "uniap_zoo", "uniap_dp"} <= top
    assert all(name == "uniap" or name.startswith("uniap_") for name in top)
    assert {"uniap/py.typed", "uniap_core/py.typed"} <= set(names)


def test_every_entry_point_is_in_it(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    (entries,) = (name for name in names if name.endswith("entry_points.txt"))
    rows = zipfile.ZipFile(wheel).read(entries).decode().splitlines()
    modules = {row.partition(" = ")[2].partition(":")[0].replace(".", "/") for row in rows if " = " in row}
    assert len(modules) > 10
    assert not {m for m in modules if not {f"{m}.py", f"{m}/__init__.py"} & names}


def test_a_type_checker_sees_types(wheel, tmp_path):
    place = tmp_path / "venv"
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    if HAS_PIP:
        run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel)
    else:
        run(shutil.which("uv") or "uv", "pip", "install", "--quiet", "--no-deps", "--python", python, wheel)
    (tmp_path / "user.py").write_text(USER)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "user.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    said = done.stdout
    assert 'Revealed type is "uniap_core.search.sweep.Sweep"' in said, said + done.stderr
    assert 'Revealed type is "str"' in said or 'Revealed type is "builtins.str"' in said
    assert 'Argument "batch" to "plan" has incompatible type "str"' in said
    assert 'Unexpected keyword argument "sequence"' in said
    assert 'Module has no attribute "plans"' in said
    assert done.returncode == 1
