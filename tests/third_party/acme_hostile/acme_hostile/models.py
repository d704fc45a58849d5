"""Sources of models that are wrong in one way each."""

from uniap_core.api import TOKENS, Layer, ModelGraph, ModelPlugin, Operator


def _models(name: str, summary: str, **fields: object) -> ModelPlugin:
    functions = {"names": "acme_hostile.models:names", "build": f"acme_hostile.models:{name}", "handles": f"{name}:.*"}
    return ModelPlugin(name=f"hostile-{name}", summary=summary, **(functions | fields))


CRASH = _models("crash", "raises an error", names="acme_hostile.models:crash")
NAMES = _models("nothing", "lists numbers", names="acme_hostile.models:numbers")
NOTHING = _models("nothing", "returns None")
NUMBER = _models("nothing", "its names are a number", names=7)
PATTERN = _models("nothing", "handles no regular expression", names="", handles="(")
WORDS = _models("words", "returns a graph made of words", names="")


def crash(*arguments: object) -> None:
    raise ZeroDivisionError("the well is dry")


def names() -> tuple[str, ...]:
    return ("hostile-model",)


def numbers() -> tuple[int, ...]:
    return (1, 2)


def nothing(name: str, sequence: int | None) -> None:
    return None


def tiny(name: str, sequence: int | None) -> ModelGraph:
    gemm = Operator(name="up", kind="gemm", rows=TOKENS, inner=8, outer=8, parameters=64)
    return ModelGraph(
        name=name, family="traced", sequence=sequence or 8, layers=(Layer("only", "decoder", (gemm,)),), edges=()
    )


def words(name: str, sequence: int | None) -> ModelGraph:
    gemm = Operator(name="up", kind="gemm", rows=TOKENS, inner="wide", outer=8)
    return ModelGraph(name=name, family="traced", sequence=8, layers=(Layer("only", "decoder", (gemm,)),), edges=())
