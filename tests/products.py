"""Products of cases, too many for the quick tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import pytest


def each_once(names: str, *axes: Mapping[str, Any] | Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrize over a product: quick tests have each value of each axis at least once.

    The rest are slow ones, and left out where CI is set, as those that take a minute are: together they do.

    Args:
        names: Names of the arguments, with commas between.
        axes: Values of each argument, by name where their own text says too little.
    """
    tables = [axis if isinstance(axis, Mapping) else {str(each): each for each in axis} for axis in axes]
    keys = [list(table) for table in tables]
    quick = {tuple(each[n % len(each)] for each in keys) for n in range(max(map(len, keys)))}
    return pytest.mark.parametrize(
        names,
        [
            pytest.param(
                *(table[key] for table, key in zip(tables, chosen, strict=True)),
                id="-".join(chosen),
                marks=() if chosen in quick else (pytest.mark.slow, pytest.mark.long),
            )
            for chosen in product(*keys)
        ],
    )
