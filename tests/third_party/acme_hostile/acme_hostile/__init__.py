"""Plugins of all four kinds whose code does what no plugin should; the fence around them keeps it in."""

from uniap_core.api import Form, SolverPlugin


def _solver(name: str, summary: str, **fields: object) -> SolverPlugin:
    functions = {"solve": f"acme_hostile.solvers:{name.replace('-', '_')}", "probe": "acme_hostile.solvers:probe"}
    return SolverPlugin(name=f"hostile-{name}", summary=summary, **({"takes": Form.PROBLEM} | functions | fields))


_HONEST = {"solve": "acme_hostile.solvers:honest"}
BOUND = _solver("bound", "its bound is a thousand times too high", bound="acme_hostile.solvers:high", **_HONEST)
BOUND_CRASH = _solver("bound-crash", "its bound raises an error", bound="acme_hostile.solvers:dry", **_HONEST)
BOUND_NAN = _solver("bound-nan", "its bound is not a number", bound="acme_hostile.solvers:nan", **_HONEST)
CLOSE = _solver("close", "closes the pipes of its process and sleeps")
ENDLESS = _solver("endless", "announces a message that never comes")
EXIT = _solver("exit", "calls sys.exit")
INLINE = _solver("inline", "calls sys.exit in the caller's process", inline=True, solve="acme_hostile.solvers:exit")
JUNK = _solver("junk", "writes junk on the pipe of its process")
LONG = _solver("long", "announces a message of an exabyte")
OPTIONS = _solver("options", "its options are a dictionary", options="acme_hostile.solvers:options_", **_HONEST)
SHORT = _solver("short", "places one layer alone")
SHORT_INCUMBENT = _solver("short-incumbent", "reports an incumbent that places one layer alone")
WORDS = _solver("words", "takes a program, and answers with words", takes=Form.MILP)
