"""What we tell people to write works: the page, and the files that ``uniap new solver`` writes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from installing import install

from uniap_core.errors import BadFile, UsageError
from uniap_core.scaffold import new_solver

PAGE = Path(__file__).parents[2] / "docs" / "solver-plugin.md"


def passes_the_kit(project, site):
    """Install a project into a folder and run its own tests, which are the kit's, in another process."""
    site.mkdir()
    install(project, site)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(site), *sys.path]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=project, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 40


def test_the_code_of_the_page_is_a_distribution_that_passes_the_kit(tmp_path):
    pytest.importorskip("scipy")
    files = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert [name for name, _ in files] == [
        "pyproject.toml",
        "uniap_scipy/__init__.py",
        "uniap_scipy/backend.py",
        "tests/test_uniap_scipy.py",
    ]
    project = tmp_path / "project"
    for name, text in files:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    passes_the_kit(project, tmp_path / "site")


def test_a_new_solver_passes_the_kit(tmp_path):
    written = new_solver("my-solver", tmp_path / "project")
    assert {path.relative_to(tmp_path / "project").as_posix() for path in written} == {
        "pyproject.toml",
        "README.md",
        "uniap_my_solver/__init__.py",
        "uniap_my_solver/backend.py",
        "tests/test_uniap_my_solver.py",
    }
    passes_the_kit(tmp_path / "project", tmp_path / "site")


def test_a_new_solver_is_as_tidy_as_the_rest(tmp_path):
    new_solver("tidy", tmp_path)
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed here")
    for check in (["check"], ["format", "--check"]):
        config = str(PAGE.parents[1] / "pyproject.toml")
        done = subprocess.run(
            [ruff, *check, "--config", config, "--no-cache", tmp_path / "uniap_tidy"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["", "Big", "with space", "under_score", "../up", "1", "end-", "a.b", "x/y", "-dash"])
def test_names_that_cannot_be(tmp_path, name):
    if name == "1":  # uniap_1 is a fine package
        assert new_solver(name, tmp_path)
        return
    with pytest.raises(UsageError, match="name of a solver"):
        new_solver(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    new_solver("acme", tmp_path)
    (tmp_path / "uniap_acme" / "backend.py").write_text("precious")
    with pytest.raises(BadFile, match="exists already"):
        new_solver("acme", tmp_path)
    assert (tmp_path / "uniap_acme" / "backend.py").read_text() == "precious"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFile, match="cannot be made"):
        new_solver("acme", tmp_path / "file" / "folder")
