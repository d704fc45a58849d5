"""JSON files in and out: strict decoding, stable hashes, atomic writes.

Each arrow of the pipeline can be a file. A file names its schema; fields that the schema does not know are
refused with their path; numbers that JSON cannot carry (NaN, infinities) are refused on both sides.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .errors import BadFile

T = TypeVar("T")


def decode(data: bytes | str, kind: type[T], origin: str = "document") -> T:
    """Decode JSON strictly into a msgspec struct.

    Parameters
    ----------
    data
        The JSON text.
    kind
        The type to decode into; a struct with ``forbid_unknown_fields`` refuses what it does not know.
    origin
        What to call the document in an error message (usually its path).

    Raises
    ------
    BadFile
        If the text is not JSON (with the byte offset) or does not fit the type (with the field's path).
    """
    try:
        decoded = msgspec.json.decode(data, type=kind)
        _check_keys(data, kind, origin)
        return decoded
    except msgspec.ValidationError as error:
        raise BadFile(
            f"{origin}: {error}", "correct that field; docs/formats.md lists every field and its unit"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFile(
            f"{origin} is not a complete JSON document: {error}",
            "write the file again; it may be truncated or not JSON at all",
        ) from None


def _check_keys(data: bytes | str, kind: type, origin: str) -> None:
    """Refuse a key that is given twice, which readers take in different ways, and a document that names no schema."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise BadFile(f"{origin} has the key {twice!r} twice in one object", "give each key once")
        return found

    document = json.loads(data, object_pairs_hook=once)
    if "schema" in getattr(kind, "__struct_fields__", ()) and "schema" not in document:
        raise BadFile(f"{origin} names no schema", "write its schema; docs/formats.md names those that there are")


def encode(value: Any) -> bytes:
    """Encode a struct as compact JSON with a fixed field order (deterministic, so that it can be hashed)."""
    return msgspec.json.encode(value, order="deterministic")


def pretty(value: Any) -> str:
    """Encode a struct as indented JSON with a final newline, as written to files."""
    return msgspec.json.format(encode(value), indent=1).decode() + "\n"


def digest(value: Any) -> str:
    """Content hash of a struct: ``sha256:`` and 64 hex digits of its compact JSON."""
    return "sha256:" + hashlib.sha256(encode(value)).hexdigest()


def read(path: str | os.PathLike[str], kind: type[T]) -> T:
    """Read a JSON file strictly.

    Raises
    ------
    BadFile
        If the file is missing, unreadable, not JSON, or does not fit ``kind``.
    """
    return decode(read_bytes(path), kind, origin=str(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a file whole, or raise :class:`BadFile` saying why it cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise BadFile(f"{path} does not exist", "check the path") from None
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from None


def write(path: str | os.PathLike[str], value: Any) -> None:
    """Write a struct as indented JSON, atomically."""
    write_text(path, pretty(value))


def write_text(path: str | os.PathLike[str], text: str | bytes) -> None:
    """Write a whole file or nothing: a temporary file beside the target, flushed, then renamed over it.

    Raises
    ------
    BadFile
        If the folder does not exist or cannot be written.
    """
    target = Path(path)
    data = text.encode() if isinstance(text, str) else text
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise BadFile(
            f"{path} cannot be written: {error.strerror}", "name a folder that exists and is writable"
        ) from None
