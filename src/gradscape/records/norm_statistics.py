"""Words on the statistics that BatchNorm took while something was measured."""

from __future__ import annotations

NONE = "none"  # of a model without BatchNorm


def describe_statistics(bn: str) -> str:
    """Return words to follow others, such as `, BatchNorm's running statistics`; none without BatchNorm.

    Args:
        bn: Statistics that BatchNorm took, or `none`.
    """
    return "" if bn == NONE else f", BatchNorm's {bn} statistics"
