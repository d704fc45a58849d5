"""The price of pins: how much slower the best pinned plan is than the best plan without the pin."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from ..events import Emit, silent
from ..pins import Pins
from ..search import Considered, Search, Sweep, sweep


class PinPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a pin costs.

    Attributes
    ----------
    pin
        The pin as given; all of them joined for the price of the whole set.
    pinned_s, free_s
        Proven time per iteration with it and without it (the other pins stay).
    considered
        Where the pin excludes nothing: what the search considers anyway.
    """

    pin: str
    pinned_s: float
    free_s: float
    considered: str = ""

    @property
    def slower(self) -> float:
        """Relative slow-down; 0 if the pin costs nothing."""
        return max(0.0, self.pinned_s / self.free_s - 1)

    def sentence(self) -> str:
        """The price in words."""
        if self.considered:
            return f"pinning {self.pin} excludes nothing: the search considers {self.considered} alone"
        cost = f"costs {self.slower:.1%}" if self.slower >= 5e-4 else "costs nothing"
        return f"pinning {self.pin} {cost}"


def pin_prices(search: Search, found: Sweep, emit: Emit = silent) -> tuple[PinPrice, ...]:
    """The price of each pin of a search, and of all together if there are several.

    Parameters
    ----------
    search, found
        A search with pins and its outcome. Each price takes one more sweep.
    """
    known = Considered(search)
    pinned = found.plan.predicted.iteration_time_s
    prices = []
    for pin in search.pins.pins:
        if not known.excludes(pin):
            listed = f"{pin.key} {', '.join(map(str, known.values(pin)))}"
            prices.append(PinPrice(pin=pin.text, pinned_s=pinned, free_s=pinned, considered=listed))
            continue
        rest = search.pins.without(pin)
        prices.append(PinPrice(pin=pin.text, pinned_s=pinned, free_s=_time(search, rest, emit)))
    if len(search.pins.pins) > 1:
        together = ", ".join(search.pins.texts)
        prices.append(PinPrice(pin=together, pinned_s=pinned, free_s=_time(search, Pins(), emit)))
    return tuple(prices)


def _time(search: Search, pins: Pins, emit: Emit) -> float:
    freed = replace(search, pins=pins, space=pins.narrow(search.free_space), top=1)
    return sweep(freed, emit).plan.predicted.iteration_time_s
