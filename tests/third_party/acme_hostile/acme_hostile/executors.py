"""Executors that are wrong in one way each."""

import sys

from uniap_core.api import Capability, ExecutorPlugin, RunReport


def _executor(name: str, summary: str, **fields: object) -> ExecutorPlugin:
    function = f"acme_hostile.executors:{name}"
    functions = {"layout": function, "launch": function, "export": function, "express": function}
    return ExecutorPlugin(
        name=f"hostile-{name}", summary=summary, **({"capability": Capability()} | functions | fields)
    )


CRASH = _executor("crash", "raises an error")
EXIT = _executor("exit", "calls sys.exit")
FORGETS = _executor("forgets", "says that it wrote a file that is not there", express="")
NOTHING = _executor("nothing", "returns None")
NUMBER = _executor("number", "its capability is a number", capability=7)
OTHER = _executor("other", "returns the report of another plan", express="", export="", layout="")
WORDS = _executor("words", "returns a report made of words", express="", export="", layout="")


def crash(*arguments: object) -> None:
    raise ZeroDivisionError("the well is dry")


def exit(*arguments: object) -> None:
    sys.exit(0)


def nothing(*arguments: object) -> None:
    return None


def forgets(plan: object, folder: object, *others: object) -> list[str]:
    return [f"{folder}/launch.sh"]


def _report(**fields: object) -> RunReport:
    figures = {"losses": (), "gradient_norms": (), "step_s": (), "predicted_time_s": 1.0, "measured_time_s": 1.0}
    where = {"executor": "hostile", "device": "cpu", "world": 1, "first_step": 0, "stages": (), "folder": ""}
    return RunReport(**(figures | where | fields))


def other(plan: object, job: object, emit: object) -> RunReport:
    return _report(plan="sha256:0")


def words(plan: object, job: object, emit: object) -> RunReport:
    return _report(plan=plan.seal, losses=("low", "lower"))
