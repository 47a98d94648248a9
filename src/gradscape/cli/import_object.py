"""Import of objects of a user's own code by FILE.py:NAME or package.module:NAME."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from os.path import isfile
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from gradscape.errors import ConfigError, brief, cut, nearest, with_place

T = TypeVar("T")


def load_factory(name: str) -> Callable[..., Any]:
    """Return the factory of a name; a file is executed, as `python FILE.py` would.

    Args:
        name: FILE.py:FACTORY, or package.module:FACTORY.

    Raises:
        ConfigError: There is no such file, module or factory, or reading it fails.
    """
    return load_functions(name, {})[0]


def load_functions(name: str, beside: Mapping[str, str]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the factory of a name, and other functions of the same file or module, which is read once.

    Args:
        name: FILE.py:FACTORY, or package.module:FACTORY.
        beside: Name of a function for each flag that asks for one.

    Raises:
        ConfigError: There is no such file, module, factory or function, or reading it fails.
    """
    module, place, factory = _module_of(name, "factory")
    made = _factory_of(module, place, factory, name)
    return made, {flag: _function_of(module, place, other, f"{flag}: ") for flag, other in beside.items()}


def _factory_of(module: ModuleType, place: str, factory: str, name: str) -> Callable[..., Any]:
    made = getattr(module, factory, None)
    if hasattr(made, "state_dict") and not isinstance(made, type):
        raise ConfigError(f"FACTORY: expected a function that makes a module; got the module {name}")
    return _function_of(module, place, factory)


def _function_of(module: ModuleType, place: str, name: str, flag: str = "") -> Callable[..., Any]:
    """Return the function of a name."""
    made = getattr(module, name, None)
    if not callable(made):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        own = [key for key in known if getattr(getattr(module, key), "__module__", None) == module.__name__]
        listed = f"; it has {cut(', '.join(own))}" if own else ""
        raise ConfigError(f"{flag}{place} has no function {name!r}{nearest(name, known) or listed}")
    found: Callable[..., Any] = made
    return found


def place_of(name: str, factory: Any) -> tuple[Path, int] | None:
    """Return the file and the line where a factory begins; None if it is in no file.

    Args:
        name: FILE.py:FACTORY, or package.module:FACTORY.
        factory: Factory of that name.
    """
    given = name.rpartition(":")[0]
    inner = inspect.unwrap(getattr(factory, "func", factory))
    for thing in (inner, type(inner)):
        try:
            file, line = inspect.getsourcefile(thing), inspect.getsourcelines(thing)[1]
        except (OSError, TypeError, SyntaxError):  # built in, made by hand, or the file has changed
            continue
        if file and thing is inner:
            return Path(file), max(line, 1)
    return (Path(given), 1) if given.endswith(".py") else None


def load_value(name: str, kind: type[T], what: str) -> T:
    """Return the value of a name; a file is executed, as `python FILE.py` would.

    Args:
        name: FILE.py:NAME, or package.module:NAME.
        kind: Type of the value.
        what: Word for such values in messages, such as `study`.

    Raises:
        ConfigError: There is no such file, module or value, it has another type, or reading it fails.
    """
    module, place, held = _module_of(name, what)
    value = getattr(module, held, None)
    if not isinstance(value, kind):
        known = [key for key, each in vars(module).items() if isinstance(each, kind)]
        raise ConfigError(
            f"{place} has no {what} {held!r} ({kind.__module__}.{kind.__name__}){nearest(held, known)}"
        )
    return value


def _module_of(name: str, what: str) -> tuple[ModuleType, str, str]:
    """Return the module of FILE.py:NAME or package.module:NAME, its place, and the name in it."""
    place, colon, held = name.rpartition(":")
    word = what.upper()
    wanted = f"{word}: expected FILE.py:{word} or package.module:{word}; got {brief(name)}"
    if not colon or not place or not held:
        raise ConfigError(f"{wanted}{_functions_in(name)}")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{place}.".startswith(f"{error.name}."):
            near = _file_near(place, held)
            raise ConfigError(f"{wanted}, and there is no module {brief(place)}{near}") from error
        raise ConfigError(f"{cut(place)} cannot be read: {cut(with_place(error), 400)}") from error
    return module, place, held


def _functions_in(name: str) -> str:
    """Return the end of a message that names a file's functions and classes, which is not run for that."""
    if not (name.endswith(".py") and isfile(name)):
        return ""
    try:
        parts = ast.parse(Path(name).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return ""
    names = [each.name for each in parts if isinstance(each, ast.FunctionDef | ast.ClassDef)]
    own = [each for each in names if not each.startswith("_")]
    return f", which has {cut(', '.join(own))}; type {cut(name)}:{own[0]}" if own else ""


def _file_near(place: str, held: str) -> str:
    """Return the end of a message that names the file that was meant, or an empty string."""
    meant = [file for file in (place.rstrip(":"), f"{place}.py") if file.endswith(".py")]
    return next((f"; did you mean '{file}:{held}'?" for file in meant if isfile(file)), "")


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"expected a Python file; got {path}, which is not there")
    import torch  # noqa: F401  # with its libraries, before neighbors of like names can stand in for them

    # Not under the name of a library's module, which others would get in its place; and no package's part.
    name = path.stem.replace(".", "_")
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        name = f"{name}_of_the_user"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # so that its dataclasses and pickles find it
    sys.path.insert(0, str(path.parent.resolve()))  # so that it finds its neighbors
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module
