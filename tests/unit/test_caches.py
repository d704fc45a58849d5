"""Caches are the user's own, or there are none."""

import os

import pytest

from uniap_core import caches


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_folder_is_made_for_the_user_alone(home):
    path = caches.folder("loops")
    assert path == home / "uniap" / "loops"
    assert path.stat().st_mode & 0o777 == 0o700
    assert caches.folder("loops") == path


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
@pytest.mark.parametrize("which", ["uniap", "uniap/loops"])
def test_what_others_may_write_is_not_read(home, which, mode):
    caches.folder("loops")
    (home / which).chmod(mode)
    assert caches.folder("loops") is None


def test_a_link_and_a_file_are_no_folder(home):
    (home / "uniap").mkdir(mode=0o700)
    (home / "elsewhere").mkdir(mode=0o700)
    (home / "uniap" / "loops").symlink_to(home / "elsewhere")
    (home / "uniap" / "file").write_text("")
    assert caches.folder("loops") is None
    assert caches.folder("file") is None


def test_another_users_folder_is_not_read(home, monkeypatch):
    caches.folder("loops")
    someone = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: someone)
    assert caches.folder("loops") is None


def test_without_a_home_there_is_none(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/path")
    assert caches.folder("loops") is None
