"""The callback in the real Trainer of transformers, on a tiny GPT-2: gradients before its clipping."""

from __future__ import annotations

import gc
import multiprocessing as mp
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradscape.integrations.jsonl import JsonLines, read_jsonl
from libraries import needs
from small_nets import read_norms

pytestmark = [
    needs("transformers"),
    needs("accelerate"),
    pytest.mark.filterwarnings("ignore"),  # the libraries' own
    pytest.mark.slow,
]


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    none = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0, "bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=2, n_head=2, **none)
    ).double()


def texts() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 32, (24, 16), generator=generator)
    labels = tokens.clone()
    labels[:, 0] = -100  # nothing predicts it, yet the Trainer would count it in the loss's denominator
    return [{"input_ids": row, "labels": label} for row, label in zip(tokens, labels, strict=True)]


def quick(folder: Path, **settings: Any) -> Any:
    """Settings of one epoch of which nothing is kept or shown."""
    from transformers import TrainingArguments

    return TrainingArguments(
        str(folder),
        report_to="none",
        use_cpu=True,
        num_train_epochs=1,
        per_device_train_batch_size=4,
        save_strategy="no",
        disable_tqdm=True,
        **settings,
    )


def fit(callbacks: list[Any], folder: Path, **settings: Any) -> Any:
    from transformers import Trainer

    class InOrder(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(texts())

    arguments = quick(folder, logging_steps=1, **settings)
    trainer = InOrder(gpt2(), arguments, train_dataset=texts(), callbacks=callbacks)
    trainer.train()
    return trainer


def direct(accumulate: int) -> list[list[float]]:
    """(steps, parameters): norms of the untrained model's gradients, of each step's texts at once."""
    model = gpt2()
    parameters = list(model.parameters())
    rows = torch.stack([text["input_ids"] for text in texts()]).split(4 * accumulate)
    found = []
    for tokens in rows:
        scores = model(input_ids=tokens).logits[:, :-1].flatten(0, 1)
        loss = nn.functional.cross_entropy(scores, tokens[:, 1:].flatten())
        found.append([float(g.norm()) for g in torch.autograd.grad(loss, parameters)])
    return found


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("clip", [0.0, 1e-3])
def test_gradients_are_plain_autograd_s_whatever_is_clipped(
    accumulate: int, clip: float, tmp_path: Path
) -> None:
    from gradscape.integrations.transformers import WatchCallback

    seen = WatchCallback()
    # A learning rate of 0: every step's gradients are those of the model as it was made.
    settings = {"max_grad_norm": clip, "gradient_accumulation_steps": accumulate, "learning_rate": 0.0}
    trainer = fit([seen], tmp_path, **settings)
    assert seen.flow is not None
    history = seen.flow.history()
    assert history.seen == "after the backward pass, before any clipping"
    assert history.layers[0] == "transformer.wte.weight"
    assert np.allclose(read_norms(history), direct(accumulate), rtol=1e-6, atol=0)
    logged = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
    assert np.allclose(np.sqrt((read_norms(history) ** 2).sum(1)), logged, rtol=1e-5)
    assert seen.flow.closed


@pytest.mark.parametrize(
    "settings", [{}, {"bf16": True, "gradient_accumulation_steps": 2}], ids=["plain", "bf16"]
)
def test_weights_are_as_without_and_rows_are_written(settings: dict[str, Any], tmp_path: Path) -> None:
    from gradscape.integrations.transformers import WatchCallback

    log = JsonLines(tmp_path / "rows.jsonl")
    watched = fit([WatchCallback(sinks=[log], write_every=2)], tmp_path, **settings).model
    alone = fit([], tmp_path, **settings).model
    assert all(torch.equal(p, q) for p, q in zip(watched.parameters(), alone.parameters(), strict=True))
    count = 6 // settings.get("gradient_accumulation_steps", 1)
    assert [row["step"] for row in read_jsonl(tmp_path / "rows.jsonl")] == list(range(count))


def process(rank: int, folder: str, port: str, results: Any) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    from gradscape.integrations.transformers import WatchCallback

    torch.set_num_threads(1)
    seen, log = WatchCallback(), JsonLines(f"{folder}/rank{rank}.jsonl")
    seen.sinks = (log,)
    settings = {"learning_rate": 0.0, "ddp_backend": "gloo", "gradient_accumulation_steps": 3}
    trainer = fit([seen], Path(folder), max_grad_norm=1e-3, **settings)
    assert seen.flow is not None
    logged = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
    results.put((rank, read_norms(seen.flow.history()), seen.flow.history().seen, logged))
    del trainer
    gc.collect()  # DDP's reducer that outlives its process group now and then hangs, watched or not
    torch.distributed.destroy_process_group()


def test_two_processes_see_reduced_gradients_before_clipping(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    processes = [
        context.Process(target=process, args=(r, str(tmp_path), port, results), daemon=True) for r in range(2)
    ]
    for each in processes:
        each.start()
    for each in processes:
        each.join(60)
        assert each.exitcode == 0
    for _ in processes:
        _, norms, seen, logged = results.get()
        assert seen == "after the backward pass, reduced, before any clipping"
        assert np.allclose(norms, direct(6), rtol=1e-6, atol=0)
        assert np.allclose(np.sqrt((norms**2).sum(1)), logged, rtol=1e-5)
    assert len(read_jsonl(tmp_path / "rank0.jsonl")) == 1
    assert not (tmp_path / "rank1.jsonl").exists()


def test_a_training_that_was_interrupted_can_be_run_again(tmp_path: Path) -> None:
    from transformers import Trainer, TrainerCallback

    from gradscape.integrations.transformers import WatchCallback

    class CtrlC(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 2:
                raise KeyboardInterrupt

    model, log = gpt2(), JsonLines(tmp_path / "first.jsonl")

    def cell(*callbacks: Any) -> None:
        Trainer(model, quick(tmp_path), train_dataset=texts(), callbacks=list(callbacks)).train()

    first, second = WatchCallback(sinks=[log]), WatchCallback()
    with pytest.raises(KeyboardInterrupt):
        cell(first, CtrlC())
    cell(second)
    assert first.flow is not None
    assert second.flow is not None
    assert first.flow.closed
    assert "when another watch of the model began" in first.flow.history().notes[-1]
    assert [row["step"] for row in read_jsonl(tmp_path / "first.jsonl")] == [0, 1]  # written as it ended
    assert len(second.flow.history().steps) == 6


def test_what_is_found_is_told_and_ends_the_training_where_wanted(tmp_path: Path) -> None:
    from gradscape.errors import TrainingStopped
    from gradscape.integrations.transformers import WatchCallback

    told: list[Any] = []
    seen = WatchCallback(on_finding=told.append, stop_on="fail", run="first")
    with pytest.raises(TrainingStopped, match="stopped at step 2: non-finite"):
        fit([seen], tmp_path, learning_rate=1e300)
    assert [(alert.step, alert.run) for alert in told] == [(2, "first")]
    assert seen.flow is not None
    assert len(seen.flow.history().steps) == 2
