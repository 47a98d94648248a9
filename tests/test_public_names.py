"""The line between public and private: every package says what it offers, and offers it."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest

import gradscape as gs
from gradscape.errors import ConfigError

PACKAGES = ["gradscape"] + [
    module.name for module in walk_packages(gs.__path__, "gradscape.") if module.ispkg
]
LAZY = ["gradscape", "gradscape.integrations", "gradscape.records", "gradscape.study"]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_star_gives_what_the_package_says_and_nothing_else(package: str) -> None:
    names: dict[str, Any] = {}
    exec(f"from {package} import *", names)
    listed = import_module(package).__all__
    assert len(listed) == len(set(listed))
    assert set(names) - {"__builtins__"} == set(listed)
    assert not [name for name in listed if name.startswith("_")]


@pytest.mark.parametrize("package", LAZY)
def test_what_is_imported_when_used_is_what_type_checkers_read(package: str) -> None:
    module = import_module(package)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    (checked,) = (
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    homes = {
        alias.name: str(node.module)
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(homes) == sorted(module.__all__)
    assert all(getattr(module, name) is getattr(import_module(home), name) for name, home in homes.items())
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        module.nonsense  # noqa: B018


def test_a_setting_that_cannot_be_is_a_value_error() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, gs.GradscapeError)
