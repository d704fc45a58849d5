"""The command line. Each command is a thin shell over a function of the library; heavy imports wait inside."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer

from .. import interrupts, limits
from ..errors import BadFile, Defect, Stopped, UniapError
from ..quoting import json as spelled
from ..quoting import terminal
from .screen import Screen

if TYPE_CHECKING:
    from ..plan import Plan

app = typer.Typer(
    name="uniap",
    help="Find the provably best way to train a model in parallel on a cluster.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from ..registry import version

        print(f"uniap {version()}")
        raise typer.Exit


@app.callback()
def _before_any_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


def command(function: Callable[..., int | None]) -> Callable[..., None]:
    """Register a command under its function's name."""
    shell = guarded(function)
    app.command(name=function.__name__.removesuffix("_").replace("_", "-"))(shell)
    return shell


def guarded(function: Callable[..., int | None]) -> Callable[..., None]:
    """Errors become one message and the exit code of their kind, never a traceback.

    A command returns its exit code, ``None`` meaning 0.
    """

    @functools.wraps(function)
    def shell(*args: Any, **kwargs: Any) -> None:
        as_json = bool(kwargs.get("json"))
        try:
            _check_outputs(kwargs)
            with contextlib.redirect_stdout(cast("TextIO", Screen(sys.stdout))):
                code = function(*args, **limits.check_options(kwargs)) or 0
            _flush()
        except KeyboardInterrupt:
            code = _failed(Stopped("interrupted before there was anything to deliver"), as_json)
        except BrokenPipeError:
            # The reader of a pipe went away (head, less): not an error of ours.
            _mute_stdout()
            code = 0
        except UniapError as error:
            code = _failed(error, as_json)
        except Exception as error:
            if os.environ.get("UNIAP_TRACEBACK"):
                raise
            unwritten = isinstance(error, OSError) and error.filename is None
            code = _failed(_lost(error) if unwritten else Defect.of(error), as_json)
        raise typer.Exit(code)

    return shell


FILES = ("output", "csv", "plot", "log")
"""Parameters that name a file to write: that it can be is found before any work."""

FOLDERS = ("folder", "checkpoint")
"""Parameters that name a folder to write to."""


def _check_outputs(parameters: dict[str, Any]) -> None:
    from ..artifact import check_folder, check_target

    for names, check in ((FILES, check_target), (FOLDERS, check_folder)):
        for name in names:
            if parameters.get(name):
                check(parameters[name])


def _failed(error: UniapError, as_json: bool) -> int:
    """Report an error; its exit code, which after a signal is that of the signal."""
    try:
        report_error(error, as_json=as_json and not isinstance(error, StdoutLost | Unwritten))
        _flush()
    except (OSError, BadFile):
        _mute_stdout()
        with contextlib.suppress(OSError):
            report_error(error, as_json=False)
    return interrupts.exit_code() if interrupts.came() or isinstance(error, Stopped) else error.exit_code


def _flush() -> None:
    """Let what stdout cannot take be an error now, and not a traceback at the very end.

    Raises
    ------
    BadFile
        If it does not go out (a full disk).
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _lost(error) from None


class Unwritten(BadFile):
    """A result could not be written; it has been printed on stdout instead, so the error goes to stderr."""


class StdoutLost(BadFile):
    """Standard output does not take what is written: the error goes to stderr, whatever was asked for."""


def _lost(error: Exception) -> StdoutLost:
    """What stdout could not take is lost."""
    _mute_stdout()
    return StdoutLost(
        f"stdout cannot be written: {getattr(error, 'strerror', error)}", "write to a place that has room"
    )


def _mute_stdout() -> None:
    """Nothing more can be said there, at exit neither."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def report_error(error: UniapError, *, as_json: bool) -> None:
    """Print an error for a person on stderr, or as the JSON document on stdout."""
    if as_json:
        return print_json(error.as_dict())
    from rich.console import Console

    console = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
    console.print(f"[bold red]error\\[{error.code}][/]: ", end="")
    console.print(_brief(terminal(error.cause)), markup=False)
    if error.fix:
        console.print("[bold]  fix[/]: ", end="")
        console.print(_brief(terminal(error.fix)), markup=False)


MOST_WORDS = 5_000
"""Characters of a message that a person is shown: one that quotes a file's values may be of any length."""


def _brief(text: str) -> str:
    left = len(text) - MOST_WORDS
    return text if left <= 0 else f"{text[:MOST_WORDS]} ... ({left} more characters; --json has them all)"


def read_plan(path: str) -> Plan:
    """A plan from a file; what speaks against it is said on stderr, because it is only looked at here."""
    from ..gate import doubts
    from ..plan import read

    plan = read(path)
    for doubt in doubts(plan):
        print(f"warning: {terminal(path)} does not hold: {terminal(doubt)}", file=sys.stderr)
    return plan


def print_json(value: Any) -> None:
    """Print a struct as the one JSON document of a command; escaped, where the terminal's encoding lacks a letter."""
    from ..artifact import pretty

    text = spelled(pretty(value))
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        import json

        text = json.dumps(json.loads(text), indent=1) + "\n"
    print(text, end="")


def say_interrupted(what: str) -> None:
    """Say on stderr that what was delivered is what was known when a signal came."""
    print(f"interrupted: {what}", file=sys.stderr)


def register() -> typer.Typer:
    """The application with all its commands: importing their modules registers them."""
    from . import advice, lists, planning, running, showing, solving  # noqa: F401

    return app


def main() -> None:
    """Run the command line."""
    interrupts.arm()
    try:
        register()()
    except SystemExit as ended:
        # What the parser of the command line makes of an interrupt is an "Aborted" with status 1.
        if interrupts.came() and ended.code in (1, 130):
            raise SystemExit(interrupts.exit_code()) from None
        raise
