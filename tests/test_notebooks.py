"""A notebook that is executed and made a page: everything shows its text and its drawing, without scripts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from libraries import skip_without
from live.browsing import page
from made_studies import every_state
from test_public_records import HELD

skip_without("nbconvert")
skip_without("ipykernel")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of libraries of notebooks

BEGIN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
import gradscape as gs
from test_public_records import BATCH, cross_entropy, held, net
"""
LIVE = """
model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
flow = gs.watch(model, optimizer)
flow.live(seconds=0.01)
"""
TRAIN = """
for _ in range(40):
    optimizer.zero_grad()
    cross_entropy(model(BATCH[0]), BATCH[1]).backward()
    optimizer.step()
flow.close()
"""


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The executed notebook: a cell for each kind, a study read from its folder, a training that is shown."""
    import nbformat
    from nbclient import NotebookClient

    study = tmp_path_factory.mktemp("notebook") / "study"
    every_state(study)
    kinds = [f"held({name!r})" for name in HELD]
    sources = [BEGIN, *kinds, f"gs.load({str(study)!r})", LIVE, TRAIN]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(made, timeout=120, kernel_name="python3").execute()
    return made


def outputs(notebook: Any) -> dict[str, Any]:
    """What each cell shows, by its source."""
    return {cell.source: cell.outputs for cell in notebook.cells if cell.outputs}


def test_each_kind_is_a_small_view_and_a_short_line(notebook: Any) -> None:
    shown = outputs(notebook)
    assert len(shown) == len(HELD) + 2  # and neither imports nor the training print anything
    for source, (output,) in shown.items():
        assert len(output.data["text/html"].encode()) < 100_000, source
        assert output.data["text/html"].count("<img") == 1, source
        assert output.data["text/plain"].count("\n") < 40, source
        assert len(output.data["text/plain"]) < 400, source


def test_a_study_that_was_loaded_is_a_line(notebook: Any) -> None:
    ((output,),) = [found for source, found in outputs(notebook).items() if source.startswith("gs.load")]
    assert output.data["text/plain"].startswith("<StudyRecord: study batchnorm (quick): ")
    assert "study batchnorm (quick): " in output.data["text/html"]


def test_the_cell_of_a_training_shows_it_as_it_ended(notebook: Any) -> None:
    ((output,),) = [found for source, found in outputs(notebook).items() if "flow.live" in source]
    assert "steps 0 to 39" in output.data["text/html"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_of_the_notebook_shows_all_without_scripts(
    notebook: Any, theme: str, chromium: Any, tmp_path: Path
) -> None:
    from nbconvert import HTMLExporter

    text, _ = HTMLExporter(template_name="lab", theme=theme, embed_images=True).from_notebook_node(notebook)
    file = tmp_path / "notebook.html"
    file.write_text(text)
    with page(chromium, width=1000, scripts=False) as opened:
        opened.goto(file.as_uri())
        drawings = opened.locator(".jp-OutputArea-output img").all()
        assert len(drawings) == len(HELD) + 2
        for drawing in drawings:
            box = drawing.bounding_box()
            assert box["width"] == pytest.approx(480, abs=2)
            assert box["height"] == pytest.approx(307, abs=2)
        heading = opened.locator(".jp-OutputArea-output b").first
        assert heading.is_visible()
        table = opened.locator("pre", has_text="depth scale").first
        assert table.evaluate("element => getComputedStyle(element).fontFamily") == "monospace"
        color, ground = (
            heading.evaluate(f"element => getComputedStyle({element}).{name}")
            for element, name in (("element", "color"), ("document.body", "backgroundColor"))
        )
        assert contrast(color, ground) > 7
        opened.screenshot(path=tmp_path / "notebook.png", full_page=True)


def contrast(first: str, second: str) -> float:
    """Of two colors as a browser writes them; WCAG 2.2."""
    dark, light = sorted(map(luminance, (first, second)))
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
