"""Public functions with arguments of any type and value: one line of ours, and a model as it was found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import gradscape as gs
from gradscape.errors import GradscapeError

LENIENT = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
ENDLESS = [1]
ENDLESS.append(ENDLESS)  # type: ignore[arg-type]
ODD = [
    None, True, -1, 0, 2.5, float("nan"), float("inf"), 10**400, 10**12, 1j, "", "x", "a\nb\x1b[31m", b"x",
    (), [], {}, [None], {"a": 1}, ENDLESS, object(), object, len, lambda *_: None, np.int64(3),
    np.float32(0.5), np.zeros(3), torch.zeros(()), torch.zeros(2, 2), nn.Linear(2, 2),
    Path("/nowhere/at/all"), "/nowhere/at/all", range(3), Exception("x"), iter(()),
]  # fmt: skip
odd = st.sampled_from(ODD)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def wide(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(4, 3), torch.zeros(4, dtype=torch.long)


def right(net: nn.Module) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Each public function with arguments that it takes, small ones."""
    loss = nn.functional.cross_entropy
    pairs = [batch(), batch()]
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    measured = {"model": net, "loss": loss, "batches": pairs}
    flat: dict[str, Any] = {"directions": "filter", "dims": 1, "points": 2, "span": (-1, 1), "pairs": 1}
    flat |= {"checks": 0, "convexity": 0, "accuracy": None, "through": None, "path": None, "keep": None}
    flat |= {"workers": None, "time_limit": 1.0, "bn": "running", "metrics": None, "bf16": False, "seed": 0}
    return {
        "watch": (
            watched,
            {"model": net, "optimizer": optimizer, "every": 1, "capacity": 5, "activations": False},
        ),
        "check": (
            gs.check,
            {"make_model": net, "batch": batch(), "loss": loss, "optimizer": torch.optim.Adam,
             "seeds": 1, "confirm": 0, "remedies": False},
        ),
        "curvature": (
            gs.curvature,
            {**measured, "k": 1, "matrix": "hessian", "bn": "running", "trace_products": 3, "probes": 0,
             "steps": 3, "layers": False, "vectors": False, "optimizer": optimizer, "tolerance": 1e-3,
             "time_limit": 1.0, "seed": 0},
        ),
        "smoothness": (
            gs.smoothness,
            {**measured, "lr": 0.1, "optimizer": optimizer, "range": (0.5, 4), "points": 2, "bn": "batch",
             "separately": False},
        ),
        "coordinate_check": (
            gs.coordinate_check,
            {"make_model": wide, "widths": [2, 3, 4], "batches": pairs, "loss": loss,
             "optimizer": torch.optim.Adam, "steps": 1, "seeds": 2},
        ),
        "lr_range": (
            gs.lr_range,
            {"make_model": net, "batches": pairs, "loss": loss, "optimizer": optimizer, "rates": (1e-3, 1.0),
             "steps": 10, "seeds": 1},
        ),
        "noise": (gs.noise, {**measured, "bn": "batch"}),
        "landscape": (gs.landscape, {**measured, **flat}),
        "diagnose": (gs.diagnose, {"watched": None, "limits": None}),
        "compare": (gs.compare, {"a": None, "b": "/nowhere/at/all", "seeds_of_a": (), "seeds_of_b": ()}),
        "load": (gs.load, {"folder": "/nowhere/at/all"}),
        "load_images": (
            gs.load_images,
            {"name": "digits", "root": None, "cache": None, "download": False, "mirrors": None},
        ),
        "train_run": (
            gs.train_run,
            {"config": None, "folder": "/proc/nowhere", "images": None, "device": "cpu"},
        ),
        "to_markdown": (gs.to_markdown, {"thing": None, "diagnosis": None}),
        "save_html": (gs.save_html, {"thing": None, "path": "/nowhere/at/all", "diagnosis": None}),
        "RunFolder": (gs.RunFolder, {"path": "x"}),
        "FlowRecorder": (gs.FlowRecorder, {"model": net}),
        "Sweep": (
            gs.Sweep,
            {"name": "a", "base": {}, "axes": [{"net.depth": [8]}], "seeds": 1, "seeds_at_most": 0,
             "exclude": (), "equal_updates": False, "scale_lr": "none", "title": ""},
        ),
    }  # fmt: skip


def watched(**arguments: Any) -> None:
    gs.watch(**arguments).close()


def raised_by(function: Callable[..., Any], arguments: dict[str, Any]) -> Exception | None:
    try:
        function(**arguments)
    except Exception as error:
        return error
    return None


def ours(error: Exception) -> bool:
    """Whether an error is one line of ours."""
    return isinstance(error, GradscapeError) and "\n" not in str(error) and len(str(error)) < 1_500


def state(net: nn.Module) -> tuple[Any, ...]:
    hooks = [len(getattr(m, name)) for m in net.modules() for name in ("_forward_hooks", "_backward_hooks")]
    grads = [p.grad is None for p in net.parameters()]
    return copy.deepcopy(net.state_dict()), [m.training for m in net.modules()], hooks, grads


def same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    equal = all(torch.equal(one[0][key], other[0][key]) for key in one[0])
    return equal and one[0].keys() == other[0].keys() and one[1:] == other[1:]


@pytest.mark.parametrize("name", sorted(right(model())))
@pytest.mark.filterwarnings("ignore")  # torch's own, of odd losses
@LENIENT
@given(data=st.data())
def test_wrong_arguments_are_one_line_of_ours_and_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: st.DataObject
) -> None:
    monkeypatch.chdir(tmp_path)  # keep="x" is a folder
    net = model()
    function, arguments = right(net)[name]
    for key in data.draw(st.lists(st.sampled_from(sorted(arguments)), min_size=1, max_size=2, unique=True)):
        arguments[key] = data.draw(odd, label=key)
    before, random = state(net), torch.get_rng_state()
    raised = raised_by(function, arguments)
    assert raised is None or ours(raised), f"{name}: {type(raised).__name__}: {raised}"
    assert same(state(net), before)
    assert torch.equal(torch.get_rng_state(), random)
