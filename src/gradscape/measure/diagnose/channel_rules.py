"""Rule on the order of channels: images whose last axis is the colors, before a convolution over axis 1."""

from __future__ import annotations

from gradscape.measure.diagnose.advice import options
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.gradients import FlowHistory

COLORS = (1, 3, 4)
LEAST = 8  # rows and columns of an image


def channel_findings(history: FlowHistory) -> list[Finding]:
    """Return the finding that the first convolution takes the rows of images for their channels.

    Args:
        history: History of a watch.
    """
    readings = () if history.loss is None else history.loss.readings
    shapes = [reading.inputs.shape for reading in readings if reading.inputs is not None]
    convolutions = [
        place for place, kind in enumerate(history.kinds) if kind == "conv" and place < len(history.shapes)
    ]
    if not shapes or not convolutions or any(len(shape) != 4 for shape in shapes):
        return []
    first, layer = history.shapes[convolutions[0]], history.layers[convolutions[0]]
    _, rows, columns, colors = shapes[0]
    if colors not in COLORS or min(rows, columns) < LEAST or len(first) != 4:
        return []
    if first[1] != rows or first[3] == 1:  # a kernel of one column is meant for signals of one column each
        return []
    return [
        Finding(
            verdict="channel order",
            layer=layer,
            cause=f"inputs are {shapes[0]}, with {colors} in the last axis as colors are, and the first "
            f"convolution takes axis 1, the {rows} rows, for its channels",
            remedy=options(f"x.permute(0, 3, 1, 2), and a first convolution of {colors} input channels"),
            evidence=(
                Symptom(
                    "input channels of a convolution over images with the colors in the last axis", rows,
                    colors, "torch.nn.Conv2d: inputs are (N, C, H, W)",
                ),
            ),
        )
    ]  # fmt: skip
