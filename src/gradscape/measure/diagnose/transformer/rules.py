"""Rules on what a watch has read of a transformer.

Those on attention are in `attention_rules`; limits in `limits`.
"""

from __future__ import annotations

import numpy as np

from gradscape.measure.diagnose.transformer.attention_rules import attention_findings
from gradscape.measure.diagnose.transformer.limits import TransformerLimits
from gradscape.records.diagnosis import Finding
from gradscape.records.transformer import TransformerHistory


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # of a training that breaks
def transformer_findings(
    history: TransformerHistory | None, limits: TransformerLimits | None = None
) -> list[Finding]:
    """Return the faults that a transformer's numbers show.

    Args:
        history: Readings of a training; None where there is nothing of the kind.
        limits: Limits of the rules.
    """
    if history is None:
        return []
    limits = limits or TransformerLimits()
    return attention_findings(history.attention, limits)
