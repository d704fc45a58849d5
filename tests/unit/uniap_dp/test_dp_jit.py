"""Compiling: where the cache goes, and the second process that compiles half."""

import hashlib
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


def test_damaged_cache_files_are_compiled_again(loops, tmp_path):
    """Machine code with a flipped byte ends the process when it is run, an index without its end is no index."""
    assert loops()[0] == ("one", True, True)
    folder = tmp_path / "loops_of_a_test" / "__pycache__"
    for ending, damage in (("nbc", lambda data: data[:-100] + bytes(100)), ("nbi", lambda data: data[:20])):
        damaged = [path for path in folder.glob(f"*.{ending}") if path.name.startswith(("one.", "two."))]
        assert len(damaged) == 2
        for path in damaged:
            path.write_bytes(damage(path.read_bytes()))
        assert any(misses for _, _, misses in loops())
        assert not any(misses for _, _, misses in loops())


@pytest.mark.parametrize(
    ("ending", "names"), [("nbi", b"cuniap_dp.jit\nRenamed\n."), ("nbc", b"cuniap_dp.moved\nChain\n.")]
)
def test_a_cache_that_names_what_is_no_longer_there_is_compiled_again(loops, tmp_path, ending, names):
    """The files of another version are whole, and a class or module that they name has gone."""
    loops()
    folder = tmp_path / "loops_of_a_test" / "__pycache__"
    for path in folder.glob(f"one.*.{ending}"):
        path.write_bytes(hashlib.sha256(names).digest() + names)
    assert ("one", True, True) in loops()
    assert not any(misses for _, _, misses in loops())


def test_without_a_writable_cache_folder_a_private_one_serves(monkeypatch, tmp_path):
    def enable(self):
        if not jit.numba.config.CACHE_DIR:
            raise RuntimeError("cannot cache function: no locator available")
        return real(self)

    real = jit.numba.core.dispatcher.Dispatcher.enable_caching
    monkeypatch.setattr(jit.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(jit.numba.core.dispatcher.Dispatcher, "enable_caching", enable)
    monkeypatch.setattr(jit.numba.config, "CACHE_DIR", "")
    loop = jit.compiled(jit.int64(jit.int64))(lambda x: x + 1)
    assert loop(1) == 2
    (folder,) = tmp_path.iterdir()
    assert str(folder) == jit.numba.config.CACHE_DIR == jit.private_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.rglob("*.nbc"))


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files")
@pytest.mark.parametrize("trap", ["open", "link", "file", "another user's"])
def test_a_folder_that_others_can_write_is_not_used(monkeypatch, tmp_path, trap):
    monkeypatch.setattr(jit.tempfile, "tempdir", str(tmp_path))
    guessed = tmp_path / f"uniap-numba-{os.getuid()}"
    if trap == "open":
        guessed.mkdir()
        guessed.chmod(0o777)
    elif trap == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        guessed.symlink_to(tmp_path / "elsewhere")
    elif trap == "file":
        guessed.touch(0o600)
    else:
        guessed.mkdir(mode=0o700)
        user = os.getuid()
        monkeypatch.setattr(jit.os, "getuid", lambda: user + 1)
        (tmp_path / f"uniap-numba-{user + 1}").mkdir(mode=0o700)
    found = jit.private_folder()
    assert found not in (str(guessed), str(tmp_path / f"uniap-numba-{jit.os.getuid()}"))
    assert os.stat(found).st_mode & 0o777 == 0o700
