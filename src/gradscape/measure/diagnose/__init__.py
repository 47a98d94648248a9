"""Diagnose a training: rules, their limits, and advice."""
