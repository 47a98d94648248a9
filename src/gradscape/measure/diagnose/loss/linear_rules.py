"""Rule on networks that are linear: layers in a row with no activation between any of them."""

from __future__ import annotations

from gradscape.measure.diagnose.advice import options
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.loss import SEARCHED


def linear_findings(curve: Curve, early: bool = False) -> list[Finding]:
    """Return the finding that a network is linear: a fault where its loss stays at guessing's.

    Layers narrower than the network's input and output are a factorization, whose rank is the purpose; one
    that learns, as a linear network on linear data does, gets a note instead.

    Args:
        curve: Loss over steps, with its readings.
        early: Tell it after a few steps too, whose loss says nothing yet.
    """
    widths = _widths(curve)
    too_few = not early and len(curve.finite) <= curve.limits.enough
    if not widths or too_few or curve.learns or curve.breaks or curve.diverges:
        return []
    layers = len(widths) - 1
    stays = ", and the loss stays where guessing is" if curve.stuck else ""
    return [
        Finding(
            verdict="no activation between layers",
            layer="",
            cause=f"nothing nonlinear lies between any of the {layers} layers (of widths "
            f"{', '.join(map(str, widths))}): together they are one linear layer{stays}",
            remedy=options("ReLU after each layer but the last", "a single layer, if that is meant"),
            evidence=(
                Symptom(
                    "layers in a row, of a network that is linear", layers, 1,
                    "a product of matrices is a matrix; Goodfellow et al. (2016), Deep Learning, §6.1",
                ),
            ),
            mild=not curve.stuck,
        )
    ]  # fmt: skip


def linear_notes(curve: Curve) -> tuple[str, ...]:
    """Return a note on a network that is linear and learns.

    Args:
        curve: Loss over steps, with its readings.
    """
    widths = _widths(curve)
    if not widths or not curve.learns:
        return ()
    return (f"the network is linear: nothing nonlinear lies between its {len(widths) - 1} layers",)


def _widths(curve: Curve) -> tuple[int, ...]:
    """Return the widths of layers in a row that no rank explains; empty where there are none."""
    looked = [reading.linear_widths for reading in curve.history.readings[:SEARCHED]]
    if not looked or any(len(widths) < 3 for widths in looked):
        return ()
    first, *hidden, last = looked[0]
    return looked[0] if min(hidden) >= min(first, last) else ()
