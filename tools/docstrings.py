"""Check docstrings for what ruff's rules do not know: first words, sections, arguments left out.

`python tools/docstrings.py` lists what breaks the rules below, by file and line, and exits 1 if there is any.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "gradscape"
# First words of a docstring that is a fragment: neither an imperative nor a noun phrase with its head.
FRAGMENT = re.compile(
    r"(Of|As|At|In|On|By|To|From|With|Without|For|What|Whether|How|Where|When|Which|Whose|Who|Why|That|Those|"
    r"Because|Before|After|Beyond|Within|Under|Over|Between|Not|Is|Are|Was|Has|So|Such|Also|And|Its|Their)\b"
)

# Sections in their order, each at most once.
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Example")

Functions = ast.FunctionDef | ast.AsyncFunctionDef


def documented(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and docstring of everything that has one.

    Args:
        tree: Syntax tree of a module.
    """
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def sections(text: str) -> list[str]:
    """Return the sections that a docstring has, in its order.

    Args:
        text: Docstring.
    """
    return re.findall(rf"^({'|'.join(SECTIONS)})s?:$", text, re.MULTILINE)


def functions(tree: ast.Module) -> Iterator[tuple[Functions, bool]]:
    """Functions and methods, and whether each is public: neither it nor its class begins with `_`.

    Args:
        tree: Syntax tree of a module.
    """
    for node in tree.body:
        if isinstance(node, Functions):
            yield node, not node.name.startswith("_")
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, Functions):
                    yield inner, not inner.name.startswith("_") and not node.name.startswith("_")


def arguments(function: Functions) -> list[str]:
    """Return the names of the arguments, without `self`, `cls` and those that begin with `_`.

    Args:
        function: Syntax tree of a function.
    """
    args = function.args
    names = [
        arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg) if arg
    ]
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def unexplained(function: Functions) -> list[str]:
    """Return the names of the arguments that the docstring's Args leave out.

    One line may be on several, as in `x, y: Coordinates.`, which ruff's D417 does not know.

    Args:
        function: Syntax tree of a function.
    """
    section = (ast.get_docstring(function) or "").partition("Args:\n")[2].partition("\n\n")[0]
    heads = re.findall(r"^ {4}(\S[^:\n]*):", section, re.MULTILINE)
    named = {name.strip(" *") for head in heads for name in head.split(",")}
    return [name for name in arguments(function) if name not in named]


def complaints(tree: ast.Module) -> list[tuple[int, str]]:
    """Return line and text of what breaks a rule, in order.

    Args:
        tree: Syntax tree of a module.
    """
    found = [
        (line, f"begins with {match[0]!r}; begin with an imperative or a noun")
        for line, text in documented(tree)
        if (match := FRAGMENT.match(text))
    ]
    found += [
        (line, f"has the sections {', '.join(names)}; each once, in the order {', '.join(SECTIONS)}")
        for line, text in documented(tree)
        if (names := sections(text)) != sorted(set(names), key=SECTIONS.index)
    ]
    found += [
        (function.lineno, f"{function.name}: Args leave out {', '.join(names)}; say what each is")
        for function, is_public in functions(tree)
        if is_public and (names := unexplained(function))
    ]
    return sorted(found)


if __name__ == "__main__":
    lines = [
        f"{path.relative_to(PACKAGE.parents[1])}:{line}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in complaints(ast.parse(path.read_text()))
    ]
    print("\n".join(lines), file=sys.stderr)
    sys.exit(1 if lines else 0)
