"""Draw the package's rooms and which imports which, as the Mermaid diagram of CONTRIBUTING.md.

`python tools/diagram.py` writes it between the markers there; `--check` fails where it is not up to date. An
arrow points to what is imported; one that follows from others is left out.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "gradscape"
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- diagram -->\n", "<!-- end -->\n"


def rooms() -> list[list[str]]:
    """Rooms of each layer, from the top, as import-linter is told of them; a single module is none."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    named = [layer.replace("|", ":").split(":") for layer in layers]
    found = [[name.strip().removeprefix("gradscape.") for name in layer] for layer in named]
    return [[name for name in layer if (PACKAGE / name).is_dir()] for layer in found]


def purpose(room: str) -> str:
    """First sentence of a room's docstring."""
    text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())) or ""
    return text.split("\n")[0].split(":")[0].split(";")[0].rstrip(".")


def imported(room: str, known: set[str]) -> set[str]:
    """Rooms that a room imports, but for types alone."""
    found = set()
    for path in (PACKAGE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradscape."):
                found.add((node.module or "").split(".")[1])
    return found & known - {room}


def needed(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph without arrows that follow from others: its transitive reduction (Aho et al. 1972)."""

    def reach(room: str) -> set[str]:
        return graph[room].union(*map(reach, graph[room]))

    return {
        room: {each for each in to if not any(each in reach(o) for o in to - {each})}
        for room, to in graph.items()
    }


def diagram() -> str:
    """The text between the markers."""
    layers = rooms()
    known = {room for layer in layers for room in layer}
    graph = needed({room: imported(room, known) for room in known})
    lines = ["```mermaid", "flowchart TB"]
    for layer in layers:
        lines += [f'  {room}["<b>{room}</b><br>{purpose(room)}"]' for room in layer]
    for layer in layers:
        lines += [f"  {room} --> {other}" for room in layer for other in sorted(graph[room])]
    return "\n".join([*lines, "```"]) + "\n"


def main() -> None:
    """Write the diagram, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where it differs")
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = before + BEGIN + diagram() + END + after
    if not parser.parse_args().check:
        PAGE.write_text(made, encoding="utf-8")
    elif made != text:
        sys.exit(f"{PAGE.name}: its diagram is not up to date; type: python tools/diagram.py")


if __name__ == "__main__":
    main()
