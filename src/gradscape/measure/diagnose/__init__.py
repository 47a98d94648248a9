"""Diagnose a training: rules, their limits, and advice."""

__all__ = ["activation_rules", "advice", "diagnose", "from_run", "limits", "loss"]
