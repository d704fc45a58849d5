"""Cost models that are wrong in one way each, the analytic one otherwise."""

import math
import sys
from dataclasses import replace

import numpy as np

from uniap_core.api import CostModelPlugin, CostTables, LayerCosts


def _cost_model(name: str, summary: str) -> CostModelPlugin:
    price = f"acme_hostile.cost_models:{name}"
    return CostModelPlugin(name=f"hostile-{name}", summary=summary, version="1", price=price)


CRASH = _cost_model("crash", "raises an error")
EXIT = _cost_model("exit", "calls sys.exit")
LISTS = _cost_model("lists", "returns lists where arrays belong")
NAN = _cost_model("nan", "returns times that are not numbers")
NOTHING = _cost_model("nothing", "returns None")
NUMBER = CostModelPlugin(name="hostile-number", summary="its version is a number", version=1, price="json:loads")
OBJECTS = _cost_model("objects", "returns arrays of objects")
OTHER = _cost_model("other", "returns the tables of one layer less")
ZERO = _cost_model("zero", "says that nothing takes any time")


def _right(*arguments: object, model: str = "") -> CostTables:
    from uniap_cost_analytic.pricing import price

    return replace(price(*arguments), model=f"hostile-{model}/1")


def _changed(tables: CostTables, **changes: object) -> CostTables:
    """The tables with every table of every layer changed by the function of its name."""

    def change(layer: LayerCosts) -> LayerCosts:
        return replace(layer, **{name: function(getattr(layer, name)) for name, function in changes.items()})

    return replace(tables, layers=tuple(change(layer) for layer in tables.layers))


def crash(*arguments: object) -> CostTables:
    raise ZeroDivisionError("the well is dry")


def exit(*arguments: object) -> CostTables:
    sys.exit(0)


def lists(*arguments: object) -> CostTables:
    return _changed(_right(*arguments, model="lists"), forward_s=lambda values: values.tolist())


def nan(*arguments: object) -> CostTables:
    return _changed(_right(*arguments, model="nan"), forward_s=lambda values: values * math.nan)


def nothing(*arguments: object) -> CostTables:
    return None


def objects(*arguments: object) -> CostTables:
    return _changed(_right(*arguments, model="objects"), forward_s=lambda values: values.astype(object))


def other(*arguments: object) -> CostTables:
    tables = _right(*arguments, model="other")
    return replace(tables, layers=tables.layers[:-1], edges=tables.edges[:-1])


def zero(*arguments: object) -> CostTables:
    tables = _changed(
        _right(*arguments, model="zero"), forward_s=np.zeros_like, backward_s=np.zeros_like, iteration_s=np.zeros_like
    )
    edges = (replace(e, reshard_s=np.zeros_like(e.reshard_s), cross_s=np.zeros_like(e.cross_s)) for e in tables.edges)
    return replace(tables, edges=tuple(edges))
