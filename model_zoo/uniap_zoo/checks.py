"""Hyper-parameters that make no sense are refused by name."""

from __future__ import annotations

from uniap_core.errors import BadValue


def positive(model: str, **numbers: int) -> None:
    """Refuse numbers below one.

    Raises
    ------
    BadValue
        Naming the first.
    """
    for key, value in numbers.items():
        if value < 1:
            raise BadValue(f"{model}: {key} is {value}", f"give {key} a value of 1 or more")


def divides(model: str, **pair: int) -> None:
    """Refuse a pair of numbers, given by name, of which the first does not divide the second.

    Raises
    ------
    BadValue
        Naming both.
    """
    (small, divisor), (large, number) = pair.items()
    if number % divisor:
        raise BadValue(f"{model}: {small} {divisor} does not divide {large} {number}", f"choose {small} to divide it")


def positions(model: str, sequence: int, table: int) -> None:
    """Refuse sequences longer than a table of learned positions.

    Raises
    ------
    BadValue
        Naming both lengths.
    """
    if sequence > table:
        raise BadValue(
            f"{model} has {table} learned positions, not {sequence}",
            f"ask for at most {table}, or give the family's own parameters, as in gpt:layers=..,seq={sequence}",
        )
