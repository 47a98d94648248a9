"""Experiment of an MLflow store, which several trainings may make at once."""

from __future__ import annotations

from typing import Any


def experiment_id(client: Any, name: str) -> str:
    """Return the id of an experiment, made if there is none.

    Args:
        client: MLflow's client of the store.
        name: Name of the experiment.
    """
    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name))
        except Exception:  # of many types, by the store; another training may have made it meanwhile
            known = client.get_experiment_by_name(name)
            if known is None:
                raise
    return str(known.experiment_id)
