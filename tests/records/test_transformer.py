"""Numbers of a transformer for trackers: every one that the sinks promise, by name."""

from __future__ import annotations

import numpy as np

from gradscape.records.transformer import RouterHistory, TransformerHistory, numbers_at


def test_a_router_s_entropy_and_largest_load_are_among_the_numbers_of_a_step() -> None:
    nan = np.nan
    load = np.array([[[0.5, 0.3, 0.2], [0.9, 0.1, nan]], [[0.4, 0.4, 0.2], [nan, nan, nan]]])
    entropy = np.array([[0.9, 0.4], [0.95, nan]])
    counts = np.full((2, 2), 8.0)
    routers = RouterHistory(("0.gate", "1.gate"), (3, 2), load, entropy, counts, counts / 4)
    history = TransformerHistory(np.array([0, 10]), None, routers=routers)
    assert numbers_at(history, 0) == {
        "router/0.gate/entropy": 0.9,
        "router/1.gate/entropy": 0.4,
        "router/0.gate/largest_load": 0.5,
        "router/1.gate/largest_load": 0.9,
    }
    assert numbers_at(history, 10) == {"router/0.gate/entropy": 0.95, "router/0.gate/largest_load": 0.4}
    assert numbers_at(history, 5) == {}
