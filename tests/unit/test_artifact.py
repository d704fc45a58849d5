"""Files: strict in, atomic out."""

from __future__ import annotations

import os

import msgspec
import pytest

from uniap_core import artifact
from uniap_core.errors import BadFile


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    value: float


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    rows: list[Inner]


def test_round_trip(tmp_path):
    document = Outer("a", [Inner(1.5), Inner(2.0)])
    artifact.write(tmp_path / "x.json", document)
    assert artifact.read(tmp_path / "x.json", Outer) == document


def test_an_unknown_field_is_refused_with_its_path():
    with pytest.raises(BadFile, match=r"unknown field `speed`.*\$\.rows\[1\]"):
        artifact.decode('{"name": "a", "rows": [{"value": 1}, {"value": 1, "speed": 2}]}', Outer)


def test_a_wrong_type_is_refused_with_its_path():
    with pytest.raises(BadFile, match=r"\$\.rows\[0\]\.value"):
        artifact.decode('{"name": "a", "rows": [{"value": "fast"}]}', Outer)


@pytest.mark.parametrize("text", ["", "{", '{"name": "a", "rows": [', "NaN", '{"name": "a", "rows": [{"value": NaN}]}'])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(BadFile, match="not a complete JSON document"):
        artifact.decode(text, Outer)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadFile, match="does not exist"):
        artifact.read(tmp_path / "none.json", Outer)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    target = tmp_path / "x.json"
    artifact.write_text(target, "old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(BadFile, match="No space left"):
        artifact.write_text(target, "new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_missing_folder_is_a_clear_error(tmp_path):
    with pytest.raises(BadFile, match="cannot be written"):
        artifact.write_text(tmp_path / "no" / "x.json", "text")


def test_the_hash_depends_on_content_only():
    assert artifact.digest({"b": 1, "a": 2}) == artifact.digest({"a": 2, "b": 1})
    assert artifact.digest({"a": 1}) != artifact.digest({"a": 2})
