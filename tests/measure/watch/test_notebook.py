"""A watch in a notebook: one output that is updated while the training goes on, seldom enough."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.measure.watch.notebook import NotebookView
from libraries import skip_without

skip_without("IPython")


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()


@pytest.mark.slow
def test_a_cell_s_output_is_updated_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        outputs: list[tuple[str, bool]] = []

        def publish(data: dict[str, str], *_: object, update: bool = False, **__: object) -> None:
            outputs.append((data["text/html"], update))

        shell.display_pub.publish = publish  # type: ignore[method-assign]
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        flow = gs.watch(model, optimizer)
        step(model, optimizer)
        view, now = NotebookView(flow, 5.0), [0.0]
        view.clock, view.due = (lambda: now[0]), 5.0
        for second in range(1, 13):
            now[0] = float(second)
            step(model, optimizer)
        flow.close()
        assert [update for _, update in outputs] == [False, True, True, True]  # 5 s, 10 s, the end
        assert "steps 0 to 12" in outputs[-1][0]
        assert all(len(text) < 100_000 for text, _ in outputs)
    finally:
        InteractiveShell.clear_instance()


def test_wrong_seconds_are_refused() -> None:
    model = nn.Linear(3, 2)
    flow = gs.watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ConfigError, match="seconds: expected a number above 0; got 0"):
        flow.live(seconds=0)
