"""Pictures of the measures' pages: what `.plot()` draws of a network of digits, in light and dark.

`python tools/measure_pictures.py` trains a few small networks, for a minute in all, and writes
`docs/images/NAME-light.webp` and `NAME-dark.webp` for each measure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import matplotlib.style
import torch
from matplotlib.axes import Axes
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.report.figures.style import RC

sys.path.insert(0, str(Path(__file__).parent / "documentation"))
from dark import DARK
from run_script import recolor

IMAGES = Path(__file__).parents[1] / "docs" / "images"
STEPS, BATCH = 100, 64

digits = gs.load_images("digits")
X = torch.from_numpy(digits.train_images[..., 0].astype("float32") / 255).flatten(1) - 0.5
Y = torch.from_numpy(digits.train_labels.astype("int64"))
BATCHES = [(X[i : i + BATCH], Y[i : i + BATCH]) for i in range(0, 20 * BATCH, BATCH)]


def perceptron(activation: type[nn.Module] = nn.ReLU, hidden: int = 2) -> nn.Sequential:
    """Return a network of digits."""
    torch.manual_seed(0)
    layers = [part for _ in range(hidden - 1) for part in (nn.Linear(64, 64), activation())]
    return nn.Sequential(nn.Linear(256, 64), activation(), *layers, nn.Linear(64, 10))


def trained() -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """Return a perceptron after a hundred steps, and its optimizer."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for batch in torch.randint(len(X), (STEPS, BATCH)):
        optimizer.zero_grad()
        cross_entropy(model(X[batch]), Y[batch]).backward()
        optimizer.step()
    return model, optimizer


def signal() -> Axes:
    """Draw the signal of thirty layers of tanh."""
    check = gs.check(
        lambda: perceptron(nn.Tanh, 30), BATCHES[0], cross_entropy, torch.optim.Adam, remedies=False
    )
    return check.signal.plot()


def smoothness() -> Axes:
    """Draw loss and gradient along the next step."""
    model, optimizer = trained()
    return gs.smoothness(model, cross_entropy, BATCHES[0], optimizer=optimizer).plot()


def curvature() -> Axes:
    """Draw the spectral density of the Hessian."""
    model, _ = trained()
    return gs.curvature(model, cross_entropy, BATCHES[:4], k=1, trace_products=0, probes=5).plot()


def noise() -> Axes:
    """Draw what the noise scale says of batch sizes."""
    model, _ = trained()
    return gs.noise(model, cross_entropy, BATCHES).plot()


def landscape() -> Axes:
    """Draw the loss over a plane."""
    model, _ = trained()
    return gs.landscape(model, cross_entropy, BATCHES[:4], points=25).plot()


def lr_range() -> Axes:
    """Draw the range test of three seeds."""
    return gs.lr_range(perceptron, BATCHES, cross_entropy, torch.optim.Adam).plot()


def check() -> Axes:
    """Draw a check of eight layers of sigmoids."""
    return gs.check(
        lambda: perceptron(nn.Sigmoid, 8), BATCHES[0], cross_entropy, torch.optim.Adam, remedies=False
    ).plot()


def heads() -> Axes:
    """Draw the entropy of a transformer's attention, by layer and step."""
    torch.manual_seed(0)
    blocks = [nn.TransformerEncoderLayer(32, 4, 128, dropout=0.0, batch_first=True) for _ in range(4)]
    model = nn.Sequential(nn.Linear(16, 32), *blocks, nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    flow = gs.watch(model, optimizer)
    for batch in torch.randint(len(X), (STEPS, 32)):
        optimizer.zero_grad()
        cross_entropy(model(X[batch].view(-1, 16, 16)).mean(1), Y[batch]).backward()
        optimizer.step()
    return flow.history().transformer.plot(statistic="entropy")


PICTURES: tuple[Callable[[], Axes], ...] = (
    signal, smoothness, curvature, noise, landscape, lr_range, check, heads,
)  # fmt: skip


def main() -> None:
    """Write all pictures; their ground is the page's, for a forge shows the light ones on a dark page too."""
    for draw in PICTURES:
        with matplotlib.style.context(["default", RC]):
            figure = draw().figure
            for scheme in ("light", "dark"):
                path = IMAGES / f"{draw.__name__.replace('_', '-')}-{scheme}.webp"
                figure.savefig(path, dpi=144, pil_kwargs={"lossless": True, "method": 6})
                print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
                recolor(figure, DARK)
        plt.close("all")


if __name__ == "__main__":
    main()
