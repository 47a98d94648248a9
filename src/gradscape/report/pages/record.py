"""Pages of single records: title, drawing and text."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes

from gradscape.records.diagnosis import Diagnosis
from gradscape.records.display import Displayable
from gradscape.report.figures.base import Figure, panel
from gradscape.report.figures.style import styled
from gradscape.report.pages.verdict import capital, inlined, rendered
from gradscape.report.templates import environment

TITLES = {
    "ActivationHistory": "Outputs of the layers",
    "Comparison": "Two trainings compared",
    "CoordinateCheck": "Coordinates against width",
    "CurvatureRecord": "Curvature of the loss",
    "DistributionHistory": "Distributions in the layers",
    "FlowHistory": "Gradients of the layers",
    "LandscapeRecord": "Loss landscape",
    "LossHistory": "Loss of the training",
    "LrRange": "Learning rates",
    "NoiseRecord": "Noise of the gradient",
    "ReplayRecord": "A step repeated",
    "RunNoise": "Noise of the gradient",
    "RunRecord": "Run",
    "RunStart": "Before the first step",
    "SignalRecord": "Signal through depth",
    "SmoothnessRecord": "Smoothness of the loss",
    "TransformerHistory": "Attention heads",
}

# How to read the drawing of a record, for those whose axes do not say it.
CAPTIONS = {
    "CurvatureRecord": (
        "An eigenvalue says how fast the gradient changes along one direction. The largest bounds the "
        "learning rate: plain gradient descent is stable up to 2 / λmax. Negative ones are directions in "
        "which the loss still falls away, as on a saddle."
    ),
    "LandscapeRecord": (
        "The wider the valley around a model, the less small changes of its weights cost. Without a wall "
        "between two models they lie in one valley."
    ),
    "NoiseRecord": (
        "Squared mean of each tensor's gradient over its variance between batches: near the dashed line it "
        "is what chance alone would give."
    ),
    "SmoothnessRecord": (
        "Loss (left) and change of the gradient (right, dashed) along the next step. The less they change, "
        "the further a gradient can be trusted, and the larger a learning rate may be."
    ),
}
CAPTIONS["RunNoise"] = CAPTIONS["NoiseRecord"]


def record_page(record: Displayable) -> str:
    """Return the page of a record: its drawing, or its `drawings` where it has several, and its text.

    Args:
        record: Record with a `plot`.
    """
    name = type(record).__name__
    title = TITLES[name]
    lead, _, rest = str(record).partition("\n")
    drawings = getattr(record, "drawings", None) or {title: record.plot}  # type: ignore[attr-defined]
    caption = CAPTIONS.get(name, "")
    figures = [_drawn(draw, drawn, place, caption) for place, (drawn, draw) in enumerate(drawings.items())]
    template = environment().get_template("record.html.j2")
    values = {"title": title, "lead": capital(lead), "text": rest, "diagnosis": None}
    return template.render(figures=figures, drawn=inlined(figures), **values) + "\n"


def diagnosis_page(diagnosis: Diagnosis) -> str:
    """Return the page of a diagnosis alone: its findings, and the gradients of the weight layers.

    Args:
        diagnosis: Diagnosis of a watch, a history or a run.
    """
    figures = [_drawn(diagnosis.plot, "Gradients of the layers")] if diagnosis.profile else []
    lead = f"Gradients were read {diagnosis.seen}."
    values = {"title": capital(diagnosis.heading), "lead": lead, "text": ""}
    return rendered("record.html.j2", diagnosis, figures, **values)


def _drawn(draw: Callable[[Axes], Axes], title: str, place: int = 0, caption: str = "") -> Figure:
    """Return what a record's method draws as a figure of the page."""
    with styled():
        drawing, axes = panel()
        draw(axes)
    return Figure(f"drawing-{place}" if place else "drawing", title, caption, "", drawing)
