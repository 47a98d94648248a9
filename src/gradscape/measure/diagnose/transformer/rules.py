"""Rules on what a watch has read of a transformer.

Those on attention are in `attention_rules`, on residual stream, gains and output logits in `stream_rules`,
on routers in `router_rules`, on adapters in `adapter_rules`; limits in `limits`.
"""

from __future__ import annotations

import numpy as np

from gradscape.measure.diagnose.transformer.adapter_rules import adapter_findings
from gradscape.measure.diagnose.transformer.attention_rules import attention_findings
from gradscape.measure.diagnose.transformer.limits import TransformerLimits
from gradscape.measure.diagnose.transformer.router_rules import router_findings
from gradscape.measure.diagnose.transformer.stream_rules import gain_findings, logit_findings, stream_findings
from gradscape.records.diagnosis import Finding
from gradscape.records.gradients import FlowHistory


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # of a training that breaks
def transformer_findings(history: FlowHistory, limits: TransformerLimits | None = None) -> list[Finding]:
    """Return the faults that a transformer's numbers show; none of another network.

    Args:
        history: History of a watch.
        limits: Limits of the rules.
    """
    seen = history.transformer
    if seen is None or not len(seen.steps):
        return adapter_findings(history)
    limits = limits or TransformerLimits()
    return [
        *([] if seen.attention is None else attention_findings(seen.attention, limits)),
        *([] if seen.stream is None else stream_findings(seen.stream, int(seen.steps[-1]), limits)),
        *([] if seen.logits is None else logit_findings(seen.logits, limits)),
        *([] if seen.routers is None else router_findings(seen.routers, limits)),
        *gain_findings(history, limits),
        *adapter_findings(history),
    ]
