"""The command line. Each command is a thin shell over a function of the library; heavy imports wait inside."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer

from ..errors import UniapError
from ..quoting import json, terminal
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
        try:
            with contextlib.redirect_stdout(cast("TextIO", Screen(sys.stdout))):
                code = function(*args, **kwargs) or 0
        except UniapError as error:
            report_error(error, as_json=bool(kwargs.get("json")))
            code = error.exit_code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = 130
        except BrokenPipeError:
            # The reader of a pipe went away (head, less): not an error of ours.
            sys.stderr.close()
            code = 0
        raise typer.Exit(code)

    return shell


def report_error(error: UniapError, *, as_json: bool) -> None:
    """Print an error for a person on stderr, or as the JSON document on stdout."""
    if as_json:
        from ..artifact import pretty

        print(json(pretty(error.as_dict())), end="")
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]error\\[{error.code}][/]: ", end="")
    console.print(terminal(error.cause), markup=False)
    if error.fix:
        console.print("[bold]  fix[/]: ", end="")
        console.print(terminal(error.fix), markup=False)


def read_plan(path: str) -> Plan:
    """A plan from a file; what speaks against it is said on stderr, because it is only looked at here."""
    from ..gate import doubts
    from ..plan import read

    plan = read(path)
    for doubt in doubts(plan):
        print(f"warning: {terminal(path)} does not hold: {terminal(doubt)}", file=sys.stderr)
    return plan


def print_json(value: Any) -> None:
    """Print a struct as the one JSON document of a command."""
    from ..artifact import pretty

    print(json(pretty(value)), end="")


def register() -> typer.Typer:
    """The application with all its commands: importing their modules registers them."""
    from . import advice, lists, planning, running, showing, solving  # noqa: F401

    return app


def main() -> None:
    """Run the command line."""
    register()()
