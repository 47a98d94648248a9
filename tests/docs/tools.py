"""Modules of tools/documentation, which are scripts beside each other and no package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools" / "documentation"


@contextmanager
def tool(name: str) -> Iterator[ModuleType]:
    """A module of tools/documentation; it and what it imports there are forgotten afterwards."""
    before = set(sys.modules)
    sys.path[:0] = [str(TOOLS), str(TOOLS.parent)]
    try:
        yield import_module(name)
    finally:
        del sys.path[:2]
        for each in set(sys.modules) - before:
            if str(TOOLS.parent) in str(getattr(sys.modules[each], "__file__", "")):
                del sys.modules[each]


def made(name: str, stage: Path) -> dict[str, str]:
    """Text of each page that a module makes, by its place."""
    with tool("staging") as staging, tool(name) as module:
        staging.STAGE = stage
        module.make()
    return {str(path.relative_to(stage)): path.read_text() for path in stage.rglob("*.*")}
