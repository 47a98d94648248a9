"""Animation of the README: the live page of a training whose verdict forms, in light and dark.

`python tools/animation.py` trains twelve layers of ReLUs on digits, under a one-cycle schedule that goes too
high for them, serves the live page, takes a picture of it every ten steps and writes
`docs/images/live-light.webp` and `live-dark.webp`. It takes some minutes, and needs playwright, a Chromium
and the extra `live`.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from torch import nn

import gradscape as gs

IMAGES = Path(__file__).parents[1] / "docs" / "images"
FRAMES, STEPS = 24, 10  # pictures, and steps from one to the next
MILLISECONDS, LAST = 350, 2_000  # that a picture stands, and the last one: ten seconds in all
SIZE = {"width": 1040, "height": 1150}
WIDTH = 780  # of the animation
SCHEMES = ("light", "dark")


def frames(folder: Path) -> dict[str, list[Image.Image]]:
    """Train, and return the pictures of the live page in each scheme."""
    digits = gs.load_images("digits")
    x = torch.from_numpy(digits.train_images[..., 0].astype("float32") / 255).flatten(1)
    y = torch.from_numpy(digits.train_labels.copy())
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.2, total_steps=FRAMES * STEPS, cycle_momentum=False
    )
    flow = gs.watch(model, optimizer, activations=True)
    live = gs.start_live(flow, folder / "digits")
    batches = iter(torch.randint(len(x), (FRAMES * STEPS, 64)))
    taken: dict[str, list[Image.Image]] = {scheme: [] for scheme in SCHEMES}
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        views = {scheme: browser.new_page(viewport=SIZE, color_scheme=scheme) for scheme in SCHEMES}
        for number in range(FRAMES):
            for _ in range(STEPS):
                optimizer.zero_grad()
                batch = next(batches)
                nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
                schedule.step()
            for scheme, view in views.items():
                if number == 0:
                    opened(view, live.address)
                view.wait_for_timeout(1_500)  # the page is told about once a second
                taken[scheme].append(Image.open(io.BytesIO(view.screenshot())))
        browser.close()
    flow.close()
    live.close()
    return taken


def network() -> nn.Module:
    """Return the network that is trained, drawn with He's initialization."""
    torch.manual_seed(0)
    layers = [nn.Linear(64 if place else 256, 64) for place in range(12)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())), nn.Linear(64, 10))


def opened(view: Page, address: str) -> None:
    """Open the page of the one training that there is."""
    view.goto(address)
    view.get_by_role("link", name="digits").click()
    view.wait_for_timeout(1_000)


def write(pictures: list[Image.Image], path: Path) -> None:
    """Write pictures as one that moves, over and over."""
    height = round(WIDTH * SIZE["height"] / SIZE["width"])
    small = [each.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS) for each in pictures]
    durations = [MILLISECONDS] * (len(small) - 1) + [LAST]
    small[0].save(
        path, save_all=True, append_images=small[1:], duration=durations, loop=0, quality=65, method=6
    )
    print(f"{path.name}: {sum(durations) / 1_000:g} s, {path.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Write both animations."""
    with tempfile.TemporaryDirectory() as folder:
        for scheme, pictures in frames(Path(folder) / "watches").items():
            write(pictures, IMAGES / f"live-{scheme}.webp")


if __name__ == "__main__":
    main()
