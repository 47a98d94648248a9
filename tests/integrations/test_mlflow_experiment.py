"""An experiment is made once, whoever else makes it at the same moment."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gradscape.integrations.mlflow_experiment import experiment_id


class Store:
    """Stand-in of MLflow's client, in whose store others may make an experiment between two calls."""

    def __init__(self, others: bool = False, refuses: bool = False) -> None:
        self.ids: dict[str, str] = {}
        self.others, self.refuses = others, refuses

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(experiment_id=self.ids[name]) if name in self.ids else None

    def create_experiment(self, name: str) -> str:
        if self.others:
            self.ids[name] = "theirs"
        if name in self.ids or self.refuses:
            raise RuntimeError("RESOURCE_ALREADY_EXISTS" if self.ids else "no room")
        self.ids[name] = "ours"
        return "ours"


def test_it_is_made_once() -> None:
    store = Store()
    assert [experiment_id(store, "digits") for _ in range(2)] == ["ours", "ours"]


def test_one_that_another_training_makes_meanwhile_is_taken() -> None:
    """As of seeds that begin together in a new store: their numbers would be written nowhere."""
    assert experiment_id(Store(others=True), "digits") == "theirs"


def test_a_store_that_refuses_is_said() -> None:
    with pytest.raises(RuntimeError, match="no room"):
        experiment_id(Store(refuses=True), "digits")
