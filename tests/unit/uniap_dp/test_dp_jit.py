"""Compiling: where the cache goes, and the second process that compiles half."""

import importlib
import os
import sys

import joblib
import pytest
from uniap_dp import jit

LOOPS = """
import os
from pathlib import Path
from uniap_dp.jit import compiled

@compiled("i8(i8)")
def loop(x):
    return x + 1

with (Path(__file__).parent / "seen").open("a") as seen:
    seen.write(f"{__name__.rpartition('.')[2]} {os.getpid()} {sum(loop.stats.cache_misses.values())}\\n")
"""


@pytest.fixture
def loops(tmp_path, monkeypatch):
    """Two modules of one loop each, never compiled; calling it loads them and returns (module, here, compiled)."""
    package = tmp_path / "loops_of_a_test"
    package.mkdir()
    for name in ("__init__", "one", "two"):
        (package / f"{name}.py").write_text("" if name == "__init__" else LOOPS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(jit, "__package__", package.name)

    def load():
        importlib.invalidate_caches()
        for name in ("one", "two"):
            sys.modules.pop(f"{package.name}.{name}", None)
        (package / "seen").unlink(missing_ok=True)
        jit.load(["one"], ["two"])
        lines = [line.split() for line in (package / "seen").read_text().splitlines()]
        return sorted((name, int(pid) == os.getpid(), bool(int(misses))) for name, pid, misses in lines)

    yield load
    for name in ("", ".one", ".two"):
        sys.modules.pop(package.name + name, None)


ALONE = [("one", True, True), ("two", True, True)]


@pytest.mark.skipif(joblib.cpu_count() < 2, reason="one core")
def test_a_second_process_compiles_half_of_what_is_not_in_the_cache(loops):
    assert loops() == [("one", True, True), ("two", False, True), ("two", True, False)]
    assert loops() == [("one", True, False), ("two", True, False)]


@pytest.mark.parametrize("program", ["", "no such program", sys.executable])
def test_without_a_second_process_all_is_compiled_here(loops, monkeypatch, program):
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.delenv("PYTHONPATH")  # a second one would not find the modules
    assert loops() == ALONE


def test_one_core_compiles_alone(loops, monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)
    assert loops() == ALONE


@pytest.mark.skipif(joblib.cpu_count() < 2, reason="one core")
@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError])
def test_no_second_process_is_left_behind(loops, monkeypatch, end):
    seconds = []

    def interrupt(second):
        seconds.append(second)
        raise end

    monkeypatch.setattr(jit._Second, "wait", interrupt)
    with pytest.raises(end):
        loops()
    (second,) = seconds
    assert second.process.returncode is not None
    second.wanted, second.process = True, None
    jit.numba.njit("i8(i8)")(lambda x: x)
    assert second.process is None


def test_without_a_writable_cache_folder_a_temporary_one_serves(monkeypatch):
    tried = []

    def njit(signature, **options):
        def decorate(function):
            tried.append(jit.numba.config.CACHE_DIR)
            if len(tried) == 1:
                raise RuntimeError("cannot cache function: no locator available")
            return function

        return decorate

    monkeypatch.setattr(jit.numba, "njit", njit)
    monkeypatch.setattr(jit.numba.config, "CACHE_DIR", "")
    assert jit.compiled("void()")(len) is len
    assert "uniap-numba" in tried[1]
