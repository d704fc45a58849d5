"""Messages between the driver and a worker process: typed structs in length-prefixed msgpack frames.

Never pickle: a decoded message can only be one of the types below. Arrays travel as dtype, shape and bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from ..errors import MalformedAnswer
from ..events import Incumbent, Note, Progress
from ..problem import Assignment, ProblemFile
from ..program.ir import Array, Program
from .request import SolveRequest
from .result import Found, RawResult, Stop

HEADER = struct.Struct("<Q")

LARGEST = 1 << 30
"""Bytes of the largest reply that a worker may announce; a point of a hundred million columns is smaller."""


class PackedArray(msgspec.Struct, frozen=True, array_like=True):
    """An array as it travels."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class Load(msgspec.Struct, frozen=True, tag=True):
    """Import a target, so that a later job finds it warm."""

    target: str


class SolverJob(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Solve a problem or a program before a deadline on the system's monotonic clock."""

    target: str
    request: SolveRequest
    problem: ProblemFile | None = None
    program: Program | None = None
    deadline: float | None = None


class Probe(msgspec.Struct, frozen=True, tag=True):
    """Call a probe, or another function of texts that returns one."""

    target: str
    arguments: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """An event on its way to the driver; ``values`` is a point of the program."""

    objective: float | None = None
    bound: float | None = None
    assignment: Assignment | None = None
    values: PackedArray | None = None
    note: str | None = None


class Finished(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The answer to a job."""

    stop: Stop
    assignment: Assignment | None = None
    values: PackedArray | None = None
    objective_s: float | None = None
    bound_s: float | None = None
    raw_status: str = ""
    version: str = ""
    statistics: dict[str, int | float | str] = {}
    seconds: float = 0.0


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The answer to a probe, or to a load."""

    text: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The plugin raised: the error's type, its words, the end of its traceback, and the fix it names."""

    kind: str
    message: str
    trace: str = ""
    fix: str = ""


Request = Load | SolverJob | Probe
Reply = Report | Finished | Answer | Failed


def pack(array: Any) -> PackedArray:
    """An array, or a sequence of numbers, ready to travel.

    Raises
    ------
    TypeError, ValueError
        If it is not made of numbers.
    """
    array = np.ascontiguousarray(array)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"not an array of numbers: {array.dtype}")
    return PackedArray(array.dtype.str, array.shape, array.tobytes())


def unpack(packed: PackedArray) -> Array:
    """The array that arrived.

    Raises
    ------
    MalformedAnswer
        If it is not made of numbers, or not of as many as it says.
    """
    try:
        dtype = np.dtype(packed.dtype)
        if dtype.kind not in "fiub":
            raise TypeError(f"not an array of numbers: {dtype}")
        return np.frombuffer(packed.data, dtype).reshape(packed.shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedAnswer(f"its point is no array: {error}", "correct the plugin") from None


def _encode_array(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return pack(value)
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"cannot send a {type(value).__name__}")


def _decode_array(kind: type, value: Any) -> Any:
    if kind is np.ndarray:
        return unpack(msgspec.convert(value, PackedArray))
    raise NotImplementedError(kind)


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_array)
_requests = msgspec.msgpack.Decoder(Request, dec_hook=_decode_array)
_replies = msgspec.msgpack.Decoder(Reply)


def send(fd: int, message: Any) -> None:
    """Write one frame."""
    payload = _encoder.encode(message)
    view = memoryview(HEADER.pack(len(payload)) + payload)
    while view:
        view = view[os.write(fd, view) :]


def decode_request(payload: bytes) -> Request:
    """A message to a worker."""
    message: Request = _requests.decode(payload)
    return message


def decode_reply(payload: bytes) -> Reply:
    """A message from a worker.

    Raises
    ------
    MalformedAnswer
        If it is none: something else wrote to the worker's pipe.
    """
    try:
        message: Reply = _replies.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedAnswer(f"its process sent what is no message: {error}", "correct the plugin") from None
    return message


def receive(fd: int, wait: Callable[[], None] = lambda: None, largest: int | None = None) -> bytes | None:
    """Read one frame, or ``None`` at the end of the stream.

    Parameters
    ----------
    wait
        Called before each read; what it raises (a deadline that has passed) ends the reading.
    largest
        Bytes that a frame may have.

    Raises
    ------
    MalformedAnswer
        If a larger one is announced.
    """
    header = _exactly(fd, HEADER.size, wait)
    if header is None:
        return None
    size = HEADER.unpack(header)[0]
    if largest is not None and size > largest:
        raise MalformedAnswer(f"its process announced a message of {size} bytes", "correct the plugin")
    return _exactly(fd, size, wait)


def _exactly(fd: int, count: int, wait: Callable[[], None]) -> bytes | None:
    parts = []
    while count:
        wait()
        part = os.read(fd, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def report_of(event: Any) -> Report | None:
    """An event as a message; ``None`` for events that mean nothing to the driver."""
    if isinstance(event, Found):
        values = None if event.values is None else pack(event.values)
        return Report(objective=event.objective_s, bound=event.bound_s, assignment=event.assignment, values=values)
    if isinstance(event, Incumbent):
        return Report(objective=event.objective_s, bound=event.bound_s)
    if isinstance(event, Progress):
        return Report(objective=event.best_s, bound=event.bound_s)
    return Report(note=event.text) if isinstance(event, Note) else None


def finished(raw: RawResult, seconds: float) -> Finished:
    """A plugin's answer as a message.

    Raises
    ------
    MalformedAnswer
        If the plugin returned anything but a well-formed :class:`RawResult`.
    """
    if not isinstance(raw, RawResult):
        raise MalformedAnswer(f"solve() returned a {type(raw).__name__}, not a RawResult", "correct the plugin")
    answer = {name: getattr(raw, name) for name in RawResult.__dataclass_fields__}
    try:
        answer |= {"values": None if raw.values is None else pack(raw.values), "seconds": seconds, "type": "Finished"}
        # Taking it apart and putting it together again checks every type inside.
        return msgspec.convert(msgspec.to_builtins(answer, enc_hook=_encode_array, builtin_types=(bytes,)), Finished)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise MalformedAnswer(f"solve() returned a RawResult with a wrong type inside: {error}") from error


def raw_of(message: Finished) -> RawResult:
    """The answer that a message carries."""
    fields = {f: getattr(message, f) for f in Finished.__struct_fields__ if f not in ("seconds", "values")}
    return RawResult(**fields, values=None if message.values is None else unpack(message.values))
