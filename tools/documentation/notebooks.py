"""Notebooks of examples/notebooks: executed by Jupyter's kernel, and shown with what they print and draw."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from places import ELSEWHERE, FILES, ROOT, STAGE
from staging import destinations, rewritten, write

SECONDS = 300  # that a cell may take: each takes seconds
# What the kernel does before the first cell: figures are drawn for light pages and for dark ones, see `draw`.
_BEGIN = """
import sys
sys.path.insert(0, {tools!r})
import notebooks
notebooks.draw({pictures!r})
sys.path.pop(0)
"""
_PICTURE = "application/x-picture"


def make() -> None:
    """Execute the notebooks, side by side, and write their pages.

    Raises:
        SystemExit: A notebook does not print what it must.
    """
    expected: dict[str, list[str]] = yaml.safe_load(
        (Path(__file__).parent / "notebooks.yaml").read_text(encoding="utf-8")
    )
    paths = {name: ROOT / "examples" / "notebooks" / f"{name}.ipynb" for name in expected}
    with ThreadPoolExecutor() as pool:
        executed = dict(zip(expected, pool.map(execute, paths.values()), strict=True))
    for name, patterns in expected.items():
        if lines := missing(printed(executed[name]), patterns):
            sys.exit(
                f"{paths[name].name}: does not print {', then '.join(lines)}:\n{printed(executed[name])}"
            )
        place = Path(ELSEWHERE[str(paths[name].relative_to(ROOT))])
        text = "\n\n".join(_cell(cell, place) for cell in executed[name].cells)
        write(place, rewritten(text, paths[name], place, destinations()) + _download(paths[name], place))


def execute(path: Path) -> Any:
    """Return a notebook with its outputs.

    Args:
        path: Path of the notebook, in whose folder it is executed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    pictures = STAGE / "pictures" / "notebooks" / path.stem
    begin = _BEGIN.format(tools=str(Path(__file__).parent), pictures=str(pictures))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(begin))
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute(
        stderr=subprocess.DEVNULL  # the kernel's own log: what a cell raises comes back as a message
    )
    del notebook.cells[0]
    return notebook


def draw(folder: str) -> None:
    """Draw the figures that each cell leaves as pictures into a folder, within a notebook's kernel.

    Args:
        folder: Folder of the pictures.
    """
    import matplotlib.pyplot as plt
    import matplotlib.style
    from IPython import get_ipython
    from IPython.display import display
    from run_script import save

    from gradscape.report.figures.style import RC

    matplotlib.style.use(["default", RC])
    drawn = 0

    def take(result: object) -> None:
        nonlocal drawn
        for number in plt.get_fignums():
            drawn += 1
            save(plt.figure(number), Path(folder) / str(drawn))
            display({_PICTURE: str(drawn)}, raw=True)
            plt.close(number)

    get_ipython().events.register("post_run_cell", take)  # type: ignore[no-untyped-call]


def printed(notebook: Any) -> str:
    """Return all text that a notebook's cells print.

    Args:
        notebook: Executed notebook.
    """
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return "".join(output.text for output in outputs if output.output_type == "stream")


def missing(text: str, patterns: list[str]) -> list[str]:
    """Return the patterns that a text does not have, from the first one on that does not follow the others.

    Args:
        text: Text.
        patterns: Regular expressions, in their order.
    """
    place = 0
    for number, pattern in enumerate(patterns):
        found = re.compile(pattern, re.MULTILINE).search(text, place)
        if found is None:
            return patterns[number:]
        place = found.end()
    return []


def _cell(cell: Any, place: Path) -> str:
    """Return a cell as Markdown, with its outputs."""
    if cell.cell_type == "markdown":
        return str(cell.source)
    streams = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
    others = (_output(output, place) for output in cell.outputs if output.output_type != "stream")
    printed_text = [f"```text\n{streams.rstrip()}\n```"] if streams else []
    outputs = "\n\n".join([*printed_text, *others])
    return f"```python\n{cell.source}\n```\n\n{outputs}"


def _output(output: Any, place: Path) -> str:
    if _PICTURE in output.data:
        return _picture(output.data[_PICTURE], place)
    return f"```text\n{output.data['text/plain']}\n```"


def _picture(number: str, place: Path) -> str:
    stem = f"/pictures/notebooks/{place.stem.replace('-', '_')}/{number}"
    return "\n".join(
        f"```{{image}} {stem}-{scheme}.png\n:class: only-{scheme}\n:alt: Drawing of the cell above\n```\n"
        for scheme in ("light", "dark")
    )


def _download(path: Path, place: Path) -> str:
    """Put the notebook into the site, and return a link to it."""
    target = FILES / "files" / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(path.read_bytes())
    up = "../" * len(place.parent.parts)
    return f"\n\n[This page as a notebook](site:{up}files/{path.relative_to(ROOT)})\n"
