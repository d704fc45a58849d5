"""Nothing stays behind: a small process that outlives this one for a moment and removes what it left.

Process groups and folders are named to it before they can be lost, and taken back when they are gone. However this
process ends, SIGKILL included, the pipe to the warden ends with it; the warden then kills those groups, removes those
folders, and goes. It is started with the first thing to watch. Where there is a /proc, what those groups started in
sessions of their own dies too; other wardens do not, for they have work to do then.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time

_LIFE = """
import os, signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
kept = {}
for line in sys.stdin.buffer:
    sign, kind, what = line.rstrip(b"\\n").split(b" ", 2)
    if sign == b"+":
        kept[kind, what] = None
    else:
        kept.pop((kind, what), None)
parents = {}
for name in os.listdir("/proc") if os.path.exists("/proc/self/stat") else ():
    try:
        with open("/proc/" + name + "/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])
        with open("/proc/" + name + "/cmdline", "rb") as file:
            if not file.read().endswith(b"uniap-warden\\0"):
                parents[int(name)] = parent
    except (OSError, ValueError):
        pass
groups = [int(what) for kind, what in kept if kind == b"group"]
doomed = set(groups)
while more := {pid for pid, parent in parents.items() if parent in doomed} - doomed:
    doomed |= more
for kill, targets in ((os.killpg, groups), (os.kill, doomed)):
    for target in targets:
        try:
            kill(target, signal.SIGKILL)
        except OSError:
            pass
folders = [what for kind, what in kept if kind == b"folder"]
if folders:
    import shutil, time
    for _ in range(20):
        folders = [f for f in folders if os.path.lexists(f)]
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        if not folders:
            break
        time.sleep(0.05)
"""

_PATIENCE_S = 2.0
_POLL_S = 0.3

_lock = threading.RLock()
_process: subprocess.Popen[bytes] | None = None


def watch(*, group: int | None = None, folder: str | os.PathLike[str] | None = None) -> None:
    """Name a process group that must die, or a folder that must go, with this process."""
    _tell(b"+", group, folder)


def release(*, group: int | None = None, folder: str | os.PathLike[str] | None = None) -> None:
    """Take back what was named to :func:`watch`: it is gone, or shall stay."""
    if _process is not None:
        _tell(b"-", group, folder)


def folder_of(prefix: str) -> str:
    """A new temporary folder that goes with this process: it is named to the warden before it is there."""
    path = os.path.join(tempfile.gettempdir(), prefix + os.urandom(8).hex())
    watch(folder=path)
    os.mkdir(path, 0o700)
    return path


def _tell(sign: bytes, group: int | None, folder: str | os.PathLike[str] | None) -> None:
    lines = b""
    if group is not None:
        lines += b"%s group %d\n" % (sign, group)
    if folder is not None and b"\n" not in os.fsencode(folder):
        lines += b"%s folder %s\n" % (sign, os.path.abspath(os.fsencode(folder)))
    with _lock:
        pipe = _started().stdin
        # A warden that somebody killed costs what it would have done, not this process.
        with contextlib.suppress(OSError):
            os.write(pipe.fileno(), lines) if pipe is not None else None


def _started() -> subprocess.Popen[bytes]:
    global _process
    if _process is None:
        _process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LIFE, "uniap-warden"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
            cwd="/",
        )
    return _process


def follow(parent: int) -> None:
    """End this process soon after its parent has ended: for one that the parent's warden cannot reach."""

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        os._exit(1)

    threading.Thread(target=wait, name="follow", daemon=True).start()


@atexit.register
def end() -> None:
    """Let the warden do its work now, and wait for it."""
    global _process
    with _lock:
        process, _process = _process, None
    if process is None or process.stdin is None:
        return
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE_S)


def _forget() -> None:
    """In a forked child: the warden is the parent's, and sees the end of its pipe only if no copy stays open."""
    global _process, _lock
    _lock = threading.RLock()
    if _process is not None and _process.stdin is not None:
        _process.stdin.close()
        _process.returncode = 0  # not a child of this process: nothing to wait for
    _process = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
