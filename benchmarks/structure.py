"""The package's structure in numbers: rooms, layers, circles, names, docstrings, lines, time to start.

`python benchmarks/structure.py` prints them as a table and writes `results/structure.json`; `--before DIR`
counts those of a checkout of an earlier commit too.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import sys
import tokenize
import tomllib
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from measure import machine, write

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from docstrings import FRAGMENT, Functions, arguments, documented, functions, unexplained

ROOT = Path(__file__).parents[1]
STARTS = 5  # of an interpreter


def modules(tree: Path) -> dict[str, ast.Module]:
    """Dotted name, without the package's, of every module, and its syntax tree."""
    package = tree / "src" / "gradscape"
    found = {}
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(name: str, tree: ast.Module, known: set[str]) -> set[str]:
    """Modules of the package that a module imports, at its top or in functions, but not for types alone."""
    types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and id(node) not in types
            and (node.module or "").startswith("gradscape")
        ):
            base = (node.module or "").removeprefix("gradscape").lstrip(".")
            found |= {
                inner if (inner := f"{base}.{alias.name}".lstrip(".")) in known else base
                for alias in node.names
            }
    return found - {name, ""}


def circles(graph: dict[str, set[str]]) -> int:
    """Number of groups of modules that import one another, directly or through others (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    count = 0

    def visit(node: str) -> None:
        nonlocal count
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            count += len(group) > 1

    for node in graph:
        if node not in index:
            visit(node)
    return count


def shared_names(trees: dict[str, ast.Module]) -> int:
    """Number of public functions that have the name of another one in their package."""
    names: dict[str, Counter[str]] = defaultdict(Counter)
    for module, tree in trees.items():
        package = module.rpartition(".")[0]
        names[package].update(
            node.name for node in tree.body if isinstance(node, Functions) and not node.name.startswith("_")
        )
    return sum(count for counter in names.values() for count in counter.values() if count > 1)


def code_lines(path: Path) -> int:
    """Count the lines of a module that hold code."""
    text = path.read_text(encoding="utf-8")
    documented_lines: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                documented_lines |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    idle = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in idle
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(lines - documented_lines)


def layers(tree: Path) -> int:
    contracts = tomllib.loads((tree / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return len(next(each["layers"] for each in contracts if each["type"] == "layers"))


def seconds(tree: Path, *arguments: str) -> float:
    """Median time of a few starts of Python."""
    times = []
    for _ in range(STARTS):
        began = perf_counter()
        command = [sys.executable, *arguments]
        subprocess.run(command, check=True, capture_output=True, env={"PYTHONPATH": str(tree / "src")})
        times.append(perf_counter() - began)
    return round(median(times), 3)


def measured(tree: Path) -> dict[str, Any]:
    """The numbers of a checkout."""
    trees = modules(tree)
    graph = {name: imports(name, parsed, set(trees)) for name, parsed in trees.items()}
    texts = [text for parsed in trees.values() for _, text in documented(parsed)]
    public = [each for parsed in trees.values() for each, is_public in functions(parsed) if is_public]
    taking = [each for each in public if arguments(each)]
    package = tree / "src" / "gradscape"
    packages = [path.parent for path in package.rglob("__init__.py") if path.parent != package]
    return {
        "modules in the root": len(list(package.glob("*.py"))),
        "modules": len(trees),
        "most modules in one folder": max(len(list(each.glob("*.py"))) for each in packages),
        "layers": layers(tree),
        "circles": circles(graph),
        "functions of one name within a package": shared_names(trees),
        "public functions and methods": len(public),
        "docstrings": len(texts),
        "docstrings that begin as a fragment, %": round(
            100 * sum(map(bool, map(FRAGMENT.match, texts))) / len(texts), 1
        ),
        "public functions with arguments that have Args, %": round(
            100 * sum(not unexplained(each) for each in taking) / len(taking), 1
        ),
        "lines of source": sum(len(path.read_text().splitlines()) for path in package.rglob("*.py")),
        "of them code, neither docstring, comment nor empty": sum(map(code_lines, package.rglob("*.py"))),
        "import gradscape, s": seconds(tree, "-c", "import gradscape"),
        "gradscape --help, s": seconds(tree, "-m", "gradscape", "--help"),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="checkout of an earlier commit")
    given = parser.parse_args()
    trees = {"before": given.before, "now": ROOT} if given.before else {"now": ROOT}
    numbers = {when: measured(tree) for when, tree in trees.items()}
    for name in numbers["now"]:
        print(f"{name:<52}", *(f"{values[name]:>10}" for values in numbers.values()))
    write("structure", {"machine": machine(), **numbers})
