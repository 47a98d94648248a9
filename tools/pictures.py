"""Pictures of the README: the page of a watched training that fails, in light and dark.

`python tools/pictures.py` trains VGG38 without a norm on random images for a minute and writes
`docs/images/watch-light.png` and `watch-dark.png`. It needs playwright and a Chromium.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.nets import Layers, vgg

IMAGES = Path(__file__).parents[1] / "docs" / "images"
STEPS = 60
SIZE = {"width": 1120, "height": 1240}


def watched(page: Path) -> None:
    """Train the README's network, and write the page of its watch."""
    torch.manual_seed(0)
    model = vgg(blocks=5, classes=10, image_size=16, layers=Layers(norm="none"), seed=0)
    optimizer = torch.optim.Adam(model.parameters())
    with gs.watch(model, optimizer) as flow:
        for _ in range(STEPS):
            optimizer.zero_grad()
            cross_entropy(model(torch.randn(20, 3, 16, 16)), torch.arange(20) % 10).backward()
            optimizer.step()
        flow.save_html(page)


def main() -> None:
    """Write both pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as player:
        page = Path(folder) / "watch.html"
        watched(page)
        browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            view = browser.new_page(viewport=SIZE, color_scheme=scheme)
            view.goto(page.as_uri())
            view.wait_for_timeout(1_000)
            view.screenshot(path=IMAGES / f"watch-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main()
