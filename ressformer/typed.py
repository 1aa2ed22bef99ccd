"""The type of a config's field is that of its default."""

from __future__ import annotations

import dataclasses
from typing import Any

INF = float("inf")


def typed(family: str, field_of: dataclasses.Field[Any], value: Any) -> Any:
    """The value of a field, an integer as a float where the default is one.

    Raises:
        ValueError: it is of another type than the default, or not finite.
    """
    wanted = type(field_of.default)
    if wanted is float and type(value) is int:
        value = float(value)
    if wanted in (bool, int, float, str) and (type(value) is not wanted or value != value or value in (INF, -INF)):
        kind = "finite float" if wanted is float else wanted.__name__
        raise ValueError(f"model {family}: {field_of.name}={value!r} must be of type {kind}, e.g. {field_of.default!r}")
    return value
