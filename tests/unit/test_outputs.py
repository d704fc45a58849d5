"""Writing through what is there: links, devices, pipes, modes, owners; and saying no before the work."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading

import pytest

from uniap_core import artifact
from uniap_core.errors import BadFile

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX files")


def test_a_symbolic_link_stays_one(tmp_path):
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    link.symlink_to(real)
    artifact.write_text(link, "one")  # a link to nothing makes its target
    assert link.is_symlink()
    assert real.read_text() == "one"
    artifact.write_text(link, "two")
    assert link.is_symlink()
    assert real.read_text() == "two"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.json", "real.json"]


def test_both_names_of_a_file_see_what_is_written(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("a longer old text")
    os.link(one, other)
    artifact.write_text(one, "new")
    assert other.read_text() == "new"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_keeps_its_mode_and_owner(tmp_path, mode):
    path = tmp_path / "plan.json"
    path.write_text("old")
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
    before = path.stat()
    artifact.write_text(path, "new")
    after = path.stat()
    assert path.read_text() == "new"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_new_file_follows_the_umask(tmp_path):
    previous = os.umask(0o027)
    try:
        artifact.write_text(tmp_path / "new", "text")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_devices_stay_devices():
    artifact.write_text("/dev/null", "gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(BadFile, match="No space left"):
        artifact.write_text("/dev/full", "text")


def test_standard_output_can_be_named():
    code = "from uniap_core import artifact; artifact.write_text('/dev/stdout', 'words')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"words"


def test_a_pipe_is_written_to_and_read_from(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    artifact.write_text(pipe, "x" * 200_000)
    reader.join()
    assert got == ["x" * 200_000]
    writer = threading.Thread(target=lambda: pipe.write_text("y" * 200_000))
    writer.start()
    assert artifact.read_bytes(pipe) == b"y" * 200_000
    writer.join()
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_without_another_end_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(artifact, "PIPE_PATIENCE_S", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFile, match="nobody wrote"):
        artifact.read_bytes(tmp_path / "pipe")
    with pytest.raises(BadFile, match="nobody reads"):
        artifact.write_text(tmp_path / "pipe", "text")


def test_a_device_without_end_is_no_file_of_ours(monkeypatch):
    monkeypatch.setattr(artifact, "MOST_BYTES", 1 << 16)
    with pytest.raises(BadFile, match="larger than"):
        artifact.read_bytes("/dev/zero")


def test_read_only_files_are_refused_to_the_superuser_too(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text("old")
    path.chmod(0o444)
    with pytest.raises(BadFile, match="read-only"):
        artifact.write_text(path, "new")
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["", "nowhere/plan.json", "file/plan.json", "x" * 300, "a\0b", "loop"])
def test_what_cannot_be_written_is_known_before(tmp_path, name):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "loop").symlink_to("loop")
    for check in (artifact.check_target, lambda path: artifact.write_text(path, "text")):
        with pytest.raises(BadFile, match="cannot be written"):
            check(os.path.join(tmp_path, name))


def test_folders_are_looked_at_too(tmp_path):
    (tmp_path / "file").write_text("a file")
    artifact.check_folder(tmp_path / "to" / "be" / "made")
    assert not (tmp_path / "to").exists()
    for path in (tmp_path / "file", tmp_path / "file" / "below", "a\0b"):
        with pytest.raises(BadFile, match="cannot be written"):
            artifact.check_folder(path)
