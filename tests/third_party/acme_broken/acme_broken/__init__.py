"""Plugins that are wrong in one way each; the driver, the registry or a comparison catches every one."""

from uniap_core.api import Form, SolverPlugin


def _plugin(name: str, summary: str, **fields: object) -> SolverPlugin:
    attributes = {"takes": Form.PROBLEM, "solve": f"acme_broken.lies:{name}", "probe": "acme_broken.lies:probe"}
    return SolverPlugin(name=f"broken-{name}", summary=summary, **(attributes | fields))


CRASH = _plugin("crash", "raises an error")
DEATH = _plugin("death", "kills its own process")
GARBLED = _plugin("garbled", "returns words where numbers belong")
HANG = _plugin("hang", "finds something, then never stops")
HUNGRY = _plugin("hungry", "takes all memory there is")
INFEASIBLE = _plugin("infeasible", "returns an assignment that does not fit")
LIBRARY = _plugin(
    "library", "needs a library that nobody has", modules=("no_such_library",), install="pip install luck"
)
LOOSE = _plugin("loose", "calls an assignment optimal whose bound leaves half of it unproven")
MALFORMED = _plugin("malformed", "returns a dictionary")
MISTYPED = _plugin("mistyped", "says what it takes in a word that is not a form", takes="problems")
NO_DESCRIPTOR = {"name": "broken-no-descriptor", "solve": "acme_broken.lies:honest"}
OBJECTIVE = _plugin("objective", "says that its assignment takes half the time it takes")
OPTIMAL = _plugin("optimal", "calls an assignment optimal without any bound")
PESSIMIST = _plugin("pessimist", "calls feasible problems infeasible after finding an assignment")
PRINTER = _plugin("printer", "prints to standard output, and is right otherwise")
BOUND = _plugin("bound", "returns a bound above its own assignment")
SMUG = _plugin("smug", "calls a poor assignment optimal, bound and all")
