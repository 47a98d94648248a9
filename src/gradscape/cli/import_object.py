"""What a user's own code holds, named on the command line: FILE.py:FACTORY, or package.module:STUDY."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from gradscape.errors import ConfigError, brief, cut, nearest, with_place

T = TypeVar("T")


def load_factory(name: str) -> Callable[[], Any]:
    """What FILE.py:FACTORY or package.module:FACTORY names; the file is executed, as `python FILE.py` would.

    Raises:
        ConfigError: no such file, module or factory, or one that fails when it is read.
    """
    module, place, factory = _module_of(name, "factory")
    found = getattr(module, factory, None)
    if hasattr(found, "state_dict") and not isinstance(found, type):
        raise ConfigError(f"{name} is a module; give a function of no arguments that makes one")
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f"{place} has no function {factory!r}{nearest(factory, known)}")
    return found


def load_value(name: str, kind: type[T], what: str) -> T:
    """What FILE.py:NAME or package.module:NAME holds; the file is executed, as `python FILE.py` would.

    Args:
        name: of a value in a module.
        kind: its type.
        what: it is, for messages, such as `study`.

    Raises:
        ConfigError: no such file, module or value, one of another type, or a file that fails when it is read.
    """
    module, place, held = _module_of(name, what)
    found = getattr(module, held, None)
    if not isinstance(found, kind):
        known = [key for key, value in vars(module).items() if isinstance(value, kind)]
        raise ConfigError(
            f"{place} has no {what} {held!r} ({kind.__module__}.{kind.__name__}){nearest(held, known)}"
        )
    return found


def _module_of(name: str, what: str) -> tuple[ModuleType, str, str]:
    """The module that FILE.py:NAME or package.module:NAME names, its place, and the name in it."""
    place, colon, held = name.rpartition(":")
    if not colon or not place or not held:
        word = what.upper()
        raise ConfigError(f"{brief(name)} names no {what}; give FILE.py:{word} or package.module:{word}")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{cut(place)} cannot be read: {cut(with_place(error), 400)}") from error
    return module, place, held


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    import torch  # noqa: F401  # with its libraries, before neighbours of like names can stand in for them

    # Not under the name of a library's module, which others would get in its place; and no package's part.
    name = path.stem.replace(".", "_")
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        name = f"{name}_of_the_user"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # so that its dataclasses and pickles find it
    sys.path.insert(0, str(path.parent.resolve()))  # so that it finds its neighbours
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module
