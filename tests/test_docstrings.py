"""The rule of `tools/docstrings.py`: no fragment, no argument without a word."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from docstrings import complaints

ADD = 'def f(a, *b):\n    """Add.\n\n    Args:\n    '


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('"""Of a module."""', ["begins with 'Of'; begin with an imperative or a noun"]),
        ('"""Offset of a module."""', []),
        ("def f(a, b): ...", ["f: Args leave out a, b; say what each is"]),
        (ADD + '    a, b: Numbers.\n    """', []),
        (ADD + '    *b: Numbers.\n    """', ["f: Args leave out a; say what each is"]),
        (ADD + '    b: Number:\n            a: 3\n    """', ["f: Args leave out a; say what each is"]),
        ("def _f(a): ...", []),
        ("class _A:\n    def f(self, a): ...", []),
        ("class A:\n    def f(self): ...", []),
    ],
)  # fmt: skip
def test_what_breaks_the_rule_is_named(text: str, found: list[str]) -> None:
    assert [complaint for _, complaint in complaints(ast.parse(text))] == found
