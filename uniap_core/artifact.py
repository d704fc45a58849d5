"""JSON files in and out: strict decoding, stable hashes, atomic writes.

Each arrow of the pipeline can be a file. A file names its schema; fields that the schema does not know are
refused with their path; numbers that JSON cannot carry (NaN, infinities) are refused on both sides.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import select
import stat
import tempfile
import time
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from . import interrupts
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


MOST_BYTES = 2**31
"""A larger file is none of ours (a device that never ends)."""

PIPE_PATIENCE_S = 10.0
"""How long the other end of a named pipe may take to come."""


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a file whole, or raise :class:`BadFile` saying why it cannot be read."""
    try:
        # Not blocking: a named pipe that nobody writes to would not even open.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(handle, "rb") as file:
            if stat.S_ISFIFO(os.fstat(handle).st_mode):
                if not select.select([handle], [], [], PIPE_PATIENCE_S)[0]:
                    raise BadFile(f"{path} is a pipe, and nobody wrote to it", "start what writes to it")
                os.set_blocking(handle, True)
            data = file.read(MOST_BYTES)
    except FileNotFoundError:
        raise BadFile(f"{path} does not exist", "check the path") from None
    except (OSError, ValueError) as error:
        raise BadFile(f"{path} cannot be read: {_reason(error)}", "check the path and its permissions") from None
    if len(data) == MOST_BYTES:
        raise BadFile(f"{path} is larger than {MOST_BYTES >> 30} GiB", "name a file of uniap's")
    return data


def _reason(error: OSError | ValueError) -> str:
    """Why the system refused; a path with a NUL byte is a ``ValueError``."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def write(path: str | os.PathLike[str], value: Any) -> None:
    """Write a struct as indented JSON, atomically."""
    write_text(path, pretty(value))


def write_text(path: str | os.PathLike[str], text: str | bytes) -> None:
    """Write a whole file or nothing, through links, keeping mode and owner of a file that is there.

    A temporary file beside the target is written, flushed, and renamed over it. What cannot be replaced so without
    becoming another thing is written in place: devices and pipes, files with several names, and files whose folder
    or owner is not ours to write.

    Raises
    ------
    BadFile
        If the folder does not exist or cannot be written, or the file is read-only.
    """
    data = text.encode() if isinstance(text, str) else text
    check_target(path)
    try:
        there = _stat(path)
        if there is not None and not _replaceable(path, there):
            _write_in_place(path, data, pipe=stat.S_ISFIFO(there.st_mode))
        else:
            _replace(Path(os.path.realpath(path)), data, there)
    except (OSError, ValueError) as error:
        raise BadFile(
            f"{path} cannot be written: {_reason(error)}", "name a folder that exists and is writable"
        ) from None


def check_target(path: str | os.PathLike[str]) -> None:
    """Find out before the work whether a file can be written after it; nothing is written or made.

    Raises
    ------
    BadFile
        If not, saying why.
    """
    try:
        there, parent = _stat(path), Path(os.path.realpath(path)).parent
        if there is None:
            why = "" if parent.is_dir() else f"there is no folder {parent}"
            why = why or ("" if os.access(parent, os.W_OK | os.X_OK) else f"the folder {parent} cannot be written")
        elif stat.S_ISDIR(there.st_mode):
            why = "it is a folder"
        elif stat.S_ISSOCK(there.st_mode):
            why = "it is a socket"
        else:
            # The superuser may write anything; a file that nobody may write was made so on purpose.
            why = "" if there.st_mode & 0o222 and os.access(path, os.W_OK) else "it is read-only"
    except (OSError, ValueError) as error:
        why = _reason(error)
    if why:
        raise BadFile(f"{path} cannot be written: {why}", "name a file in a folder that exists and is writable")


def check_folder(path: str | os.PathLike[str]) -> None:
    """Find out before the work whether a folder can be written or made after it.

    Raises
    ------
    BadFile
        If not, saying why.
    """
    try:
        place = Path(os.path.realpath(path))
        while not os.path.lexists(place):
            place = place.parent
        why = "" if place.is_dir() else f"{place} is no folder"
        why = why or ("" if os.access(place, os.W_OK | os.X_OK) else f"the folder {place} cannot be written")
    except (OSError, ValueError) as error:
        why = _reason(error)
    if why:
        raise BadFile(f"{path} cannot be written: {why}", "name a folder that can be written")


def _stat(path: str | os.PathLike[str]) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _replaceable(path: str | os.PathLike[str], there: os.stat_result) -> bool:
    """Whether a new file under the name is as good as new content in the old one."""
    named = os.path.abspath(path).startswith(("/dev/", "/proc/"))  # /dev/stdout: whoever opened it keeps the old file
    folder = os.path.dirname(os.path.realpath(path))
    ours = not hasattr(os, "geteuid") or os.geteuid() in (0, there.st_uid)
    writable = os.access(folder, os.W_OK | os.X_OK)
    return stat.S_ISREG(there.st_mode) and there.st_nlink == 1 and not named and ours and writable


def _write_in_place(path: str | os.PathLike[str], data: bytes, *, pipe: bool) -> None:
    flags = os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NONBLOCK", 0) * pipe
    ends = time.monotonic() + PIPE_PATIENCE_S
    while True:
        try:
            handle = os.open(path, flags)
            break
        except OSError as error:
            if not pipe or error.errno != errno.ENXIO:
                raise
            if time.monotonic() > ends:
                raise OSError(errno.ENXIO, "nobody reads this pipe") from None
            time.sleep(0.02)
    with open(handle, "wb") as file:
        os.set_blocking(handle, True)
        file.write(data)


def _replace(target: Path, data: bytes, there: os.stat_result | None) -> None:
    temporary = None
    with interrupts.shielded():
        try:
            handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if there is None:
                umask = os.umask(0)
                os.umask(umask)
                os.chmod(temporary, 0o666 & ~umask)
            else:
                if hasattr(os, "chown"):
                    with contextlib.suppress(PermissionError):  # a group that we are not in
                        os.chown(temporary, there.st_uid, there.st_gid)
                os.chmod(temporary, stat.S_IMODE(there.st_mode))
            os.replace(temporary, target)
        except BaseException:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            raise
