"""The callback in Lightning's real Trainer: gradients before its clipping, weights as without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from gradscape.integrations.jsonl import JsonLines, read_jsonl
from libraries import needs
from small_nets import BATCH, batches, examples, mlp, norms, read_norms

pytestmark = [
    needs("pytorch_lightning", "lightning"),
    pytest.mark.filterwarnings("ignore"),  # Lightning's own
    pytest.mark.slow,
]
CLIP = 1e-3


def lightning() -> Any:
    import importlib

    from gradscape.integrations.lightning import the_installed

    return importlib.import_module(the_installed())


def module_of(model: nn.Module, make: Any, manual: bool = False, clip: float | None = None) -> Any:
    class Module(lightning().LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = model
            self.automatic_optimization = not manual

        def configure_optimizers(self) -> Any:
            return make(self.parameters())

        def training_step(self, batch: Any, index: int) -> Any:
            x, y = batch
            loss = cross_entropy(self.net(x), y)
            if manual:
                optimizer = self.optimizers()
                optimizer.zero_grad()
                self.manual_backward(loss)
                self.clip_gradients(optimizer, CLIP)
                optimizer.step()
            return loss

    return Module()


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def fused(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01, fused=True)


def fit(
    callbacks: list[Any], make: Any = sgd, manual: bool = False, scaled: bool = False, **settings: Any
) -> nn.Module:
    x, y = examples()
    model = mlp().double()
    data = DataLoader(TensorDataset(x.double(), y), batch_size=BATCH)
    if scaled:
        plugin = lightning().plugins.MixedPrecision(
            "bf16-mixed", "cpu", scaler=None
        )  # 16 bits would spoil the comparison: the scaler alone is wanted
        plugin.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        plugin.forward_context = lambda: torch.autocast("cpu", enabled=False)
        settings["plugins"] = plugin
    trainer = lightning().Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        **{"devices": 1} | settings,
    )
    trainer.fit(module_of(model, make, manual), data)
    return model


def direct(make: Any, accumulate: int, clip: bool, parts: Any = None) -> list[list[float]]:
    """Norms of every step's gradients before clipping, of a plain loop over `batches`, or these parts."""
    model, found = mlp().double(), []
    parameters = list(model.parameters())
    optimizer = make(parameters)
    parts = parts or list(batches())
    for start in range(0, len(parts), accumulate):
        total = [torch.zeros_like(p) for p in parameters]
        for x, y in parts[start : start + accumulate]:
            loss = cross_entropy(model(x.double()), y) / accumulate
            for whole, part in zip(total, torch.autograd.grad(loss, parameters), strict=True):
                whole += part
        found.append(norms(tuple(total)))
        for parameter, gradient in zip(parameters, total, strict=True):
            parameter.grad = gradient
        if clip:
            nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
    return found


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped": {"gradient_clip_val": CLIP},
    "accumulated and clipped": {"accumulate_grad_batches": 2, "gradient_clip_val": CLIP},
    "scaled and clipped": {"scaled": True, "gradient_clip_val": CLIP},
    "scaled and fused": {"scaled": True, "make": fused},
    "manual and clipped": {"manual": True},
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_plain_autograd_s_and_weights_as_without(name: str) -> None:
    from gradscape.integrations.lightning import WatchCallback

    case, seen = CASES[name], WatchCallback()
    watched = fit([seen], **case)
    alone = fit([], **case)
    assert all(torch.equal(p, q) for p, q in zip(watched.parameters(), alone.parameters(), strict=True))
    assert seen.flow is not None
    history = seen.flow.history()
    assert history.layers[0] == "net.0.weight"
    assert not history.skipped.any()
    assert "before any clipping" in history.seen
    expected = direct(case.get("make", sgd), case.get("accumulate_grad_batches", 1), "clipped" in name)
    assert np.allclose(read_norms(history), expected, rtol=1e-6, atol=0)
    assert (history.update > 0).all()
    assert seen.flow.closed


def test_rows_are_written_while_it_trains_and_kept_when_it_breaks(tmp_path: Path) -> None:
    from gradscape.integrations.lightning import WatchCallback

    class Breaks(lightning().Callback):  # type: ignore[misc]
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, number: int
        ) -> None:
            if number == 4:
                raise RuntimeError("broken")

    log = JsonLines(tmp_path / "rows.jsonl")
    with pytest.raises(RuntimeError, match="broken"):
        fit([WatchCallback(sinks=[log], write_every=2), Breaks()])
    assert [row["step"] for row in read_jsonl(tmp_path / "rows.jsonl")] == list(range(5))
    fit([WatchCallback(sinks=[log], write_every=3)])
    assert [row["step"] for row in read_jsonl(tmp_path / "rows.jsonl")] == [*range(5), *range(8)]


def test_what_is_found_is_told_and_ends_the_training_where_wanted() -> None:
    from gradscape.errors import ConfigError, TrainingStopped
    from gradscape.integrations.lightning import WatchCallback

    told: list[Any] = []
    seen = WatchCallback(on_finding=told.append, stop_on="fail", run="first")
    with pytest.raises(TrainingStopped, match="stopped at step 2: non-finite"):
        fit([seen], make=lambda parameters: torch.optim.SGD(parameters, lr=float("inf")))
    assert [(alert.step, alert.run) for alert in told] == [(2, "first")]
    assert seen.flow is not None
    assert seen.flow.closed
    assert len(seen.flow.history().steps) == 2
    with pytest.raises(ConfigError, match="stop_on: expected fail or warn"):
        WatchCallback(stop_on="fial")


SCRIPT = """
from gradscape.integrations.jsonl import JsonLines
from gradscape.integrations.lightning import WatchCallback
from test_lightning import CLIP, fit

seen = WatchCallback(sinks=[JsonLines("rows.jsonl")])
fit([seen], strategy="ddp", devices=2, gradient_clip_val=CLIP)
"""


def test_under_ddp_rows_are_of_the_averaged_gradients_and_written_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)  # Lightning runs it again for its second process
    here = Path(__file__).parent
    places = {"PYTHONPATH": os.pathsep.join(map(str, (here, here.parent))), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | places, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = read_jsonl(tmp_path / "rows.jsonl")
    rms = [
        [v for key, v in row.items() if key.startswith("gradient/") and key.endswith("/rms")] for row in rows
    ]
    sizes = [p.numel() for p in mlp().parameters()]
    (x, y), ranks = examples(), [list(DistributedSampler(range(8 * BATCH), 2, rank)) for rank in (0, 1)]  # type: ignore[arg-type]
    shares = [torch.tensor(order).split(BATCH) for order in ranks]
    parts = [(x[share], y[share]) for both in zip(*shares, strict=True) for share in both]
    expected = direct(sgd, 2, clip=True, parts=parts)
    assert np.allclose(np.array(rms) * np.sqrt(sizes), expected, rtol=1e-6, atol=0)
