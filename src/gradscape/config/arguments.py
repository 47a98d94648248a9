"""Check of a public function's arguments against its own annotations.

@typed(every=1_000)
def watch(model: nn.Module, every: int | None = None) -> Watch: ...

watch(model, every="x")      ConfigError: every: expected a whole number; got 'x'
watch(model, every=10**9)    ConfigError: every: expected at most 1,000; got 1000000000
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from gradscape.config.fields import WORDS, checked, hints_of, require, to_python_number
from gradscape.errors import ConfigError, brief

P = ParamSpec("P")
R = TypeVar("R")


def typed(**most: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that refuses arguments of another type than annotated, before anything is done.

    Numbers become Python's own, so that numpy's are accepted. The inside of a collection or of a function,
    and the choices of a `Literal`, are left to the function.

    Args:
        most: Upper bound per name of a number, beyond which a call would not return.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        needed = [name for name, each in signature.parameters.items() if each.default is each.empty]
        usage = f"; type: gs.{function.__name__}({', '.join(needed)})"

        @functools.wraps(function)
        def called(*arguments: P.args, **named: P.kwargs) -> R:
            try:
                bound = signature.bind(*arguments, **named)
            except TypeError as error:
                raise ConfigError(f"{function.__name__}: {error}") from error
            hints = hints_of(function)
            for name, value in bound.arguments.items():
                bound.arguments[name] = checked_value = fitted(value, hints[name], name, usage)
                if name in most and isinstance(checked_value, int):
                    require(checked_value <= most[name], name, checked_value, f"at most {most[name]:,}")
            return function(*bound.args, **bound.kwargs)

        return called

    return decorate


def fitted(value: Any, hint: Any, name: str, usage: str = "") -> Any:
    """Return a value as its annotation has it: numbers may widen, numpy's become Python's.

    Args:
        value: Value of an argument.
        hint: Annotation of the argument.
        name: Name of the argument, for the message.
        usage: End of the message, which says what to type.

    Raises:
        ConfigError: The value is of another type.
    """
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = [typing.get_origin(kind) or kind for kind in (typing.get_args(hint) if union else (hint,))]
    scalars = [kind for kind in kinds if kind in WORDS]
    others = [kind for kind in kinds if kind not in WORDS]
    if len(scalars) == 1 and set(others) <= {types.NoneType}:
        checked(value, hint, name)
        return to_python_number(value)
    if any(_matches(value, kind) for kind in others):
        return value
    for kind in scalars:
        with suppress(ConfigError):
            checked(value, kind, name)
            return to_python_number(value)
    raise ConfigError(f"{name}: expected {' or '.join(map(_word, kinds))}; got {brief(value)}{usage}")


def _matches(value: Any, kind: Any) -> bool:
    if kind is Callable:
        return callable(value)
    if kind is Literal:
        return isinstance(value, str)
    if kind is Any or not isinstance(kind, type):
        return True
    if kind in (tuple, list, Sequence):  # one is as good as the other, and an array of numbers too
        listed = isinstance(value, Sized) and isinstance(value, Iterable) and to_python_number(value) is value
        return listed and not isinstance(value, str | bytes | Mapping)
    return isinstance(value, kind)


def _word(kind: Any) -> str:
    """Return the word for a type in a message."""
    named = {
        types.NoneType: "None",
        Path: "a path",
        Callable: "a function",
        Sequence: "a list",
        tuple: "a list",
        Literal: "text",
    }
    return WORDS.get(kind) or named.get(kind) or str(getattr(kind, "__name__", kind))
