"""Four ranks on gloo: each fault that is put into one is told by name, and without a fault nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gradscape as gs
from faulty_ranks import (
    STEPS,
    ChangedGradient,
    Fault,
    FlippedBit,
    Killed,
    LeftOut,
    OtherRate,
    Sharded,
    Stalled,
    run,
)
from gradscape.errors import ConfigError
from gradscape.integrations.watching import Watching

SHORT = (("every", 5), ("silence", 2.5))
FAULTS = {
    "unwatched": Fault(watched=False),
    "healthy": Fault(),
    "bit": FlippedBit(),
    "rate": OtherRate(),
    "left out": LeftOut(),
    "gradient": ChangedGradient(step=14),
    "norm": Fault(norm=True),
    "buffers": Fault(norm=True, options=(("every", 5), ("buffers", True))),
    "stalled": Stalled(options=SHORT),
    "replicated shards": Sharded(),
    "shards": Sharded(mesh=(4,)),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, Any]]:
    return run(FAULTS, tmp_path_factory.mktemp("ranks"))


pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.slow
def test_ranks_that_agree_have_no_finding_and_train_as_if_unwatched(found: dict[str, Any]) -> None:
    healthy = found["healthy"][0]
    history = healthy["history"]
    assert (history.world, history.every, history.compared, history.step) == (4, 5, 11, STEPS)
    assert history.differences == history.silences == ()
    assert healthy["diagnosis"].verdict == "healthy"
    for rank in range(4):
        assert found["healthy"][rank]["weights"] == found["unwatched"][rank]["weights"]
        assert found["healthy"][rank]["state"] == found["unwatched"][rank]["state"]
        assert found["healthy"][rank]["closing"] < 3
        assert not any("ranks" in note for note in found["healthy"][rank]["notes"])
    assert [found["healthy"][rank]["history"] for rank in (1, 2, 3)] == [None] * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "quantities", "tensor", "count"),
    [
        ("bit", ("parameter",), "2.weight", 1),
        ("rate", ("learning rate", "parameter"), "0.weight", 6),
        ("left out", ("backward passes", "parameter", "gradient"), "0.weight", 6),
        ("gradient", ("parameter", "gradient"), "4.bias", 1),
    ],
)
def test_the_rank_the_tensor_and_the_step_are_named(
    found: dict[str, Any], fault: str, quantities: tuple[str, ...], tensor: str, count: int
) -> None:
    told = found[fault][0]
    first = told["diagnosis"].findings[0]
    assert (first.verdict, first.grade, first.layer) == ("ranks differ", "fail", tensor)
    assert first.cause.startswith(
        "rank 2 differs from ranks 0, 1, 3, since step 15 (they agreed after step 10)"
    )
    differences = told["history"].differences
    assert tuple(each.quantity for each in differences) == quantities
    assert all((each.ranks, each.others) == ((2,), (0, 1, 3)) for each in differences)
    assert next(each for each in differences if each.quantity == "parameter").count == count


@pytest.mark.slow
def test_what_a_rank_did_otherwise_is_named(found: dict[str, Any]) -> None:
    assert "learning rate 0.2, elsewhere 0.1" in found["rate"][0]["diagnosis"].findings[0].cause
    assert "it has left out a step" in found["left out"][0]["diagnosis"].findings[0].cause
    assert found["left out"][0]["history"].compared == 11


@pytest.mark.slow
def test_buffers_are_compared_if_asked_for(found: dict[str, Any]) -> None:
    norm, buffers = found["norm"][0], found["buffers"][0]
    assert norm["history"].differences == ()
    assert any("2 buffers not compared" in note for note in norm["notes"])
    (difference,) = buffers["history"].differences
    assert (difference.quantity, difference.names) == ("buffer", ("1.running_mean", "1.running_var"))


@pytest.mark.slow
def test_shards_are_compared_along_the_replicate_dimension_alone(found: dict[str, Any]) -> None:
    history = found["replicated shards"][0]["history"]
    (difference,) = history.differences
    assert (difference.quantity, difference.ranks, difference.others) == ("parameter", (0, 2), ())
    assert (difference.names, difference.step, difference.agreed) == (("2.weight",), 15, 10)
    assert history.tensors == 12  # two parts of each
    alone = found["shards"][0]
    assert alone["history"].compared == 11
    assert alone["history"].tensors == len(alone["history"].differences) == 0
    assert any("6 parameter tensors not compared" in note for note in alone["notes"])


@pytest.mark.slow
def test_a_rank_that_stands_still_is_told_while_it_does(found: dict[str, Any]) -> None:
    told = found["stalled"][0]
    (silence,) = told["history"].silences
    assert (silence.rank, silence.alive, silence.over, silence.step) == (2, True, True, 13)
    assert silence.where.startswith("faulty_ranks.py:")
    assert silence.where.endswith("in after_step")
    assert told["heard"] == ["rank is silent"]
    assert told["diagnosis"].findings[0].grade == "warn"
    assert found["stalled"][3]["weights"] == found["unwatched"][3]["weights"]


@pytest.mark.slow
def test_a_rank_that_is_killed_is_told_and_nothing_hangs(tmp_path: Path) -> None:
    found = run({"killed": Killed(options=SHORT)}, tmp_path, gone=1)["killed"]
    (silence,) = found[0]["history"].silences
    assert (silence.rank, silence.alive, silence.over) == (2, False, False)
    assert found[0]["heard"] == ["rank is silent"]
    assert all(each["closing"] < 10 for each in found.values())
    assert all(each["error"] for each in found.values())  # of gloo, which has lost a rank


def test_a_process_that_is_alone_has_a_note() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, ranks=2) as flow:
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(4, 2)).sum().backward()
            optimizer.step()
    assert flow.history().ranks is None
    assert flow.notes == ["ranks are not compared: this process is alone, or its group has no store"]


def test_the_callbacks_of_libraries_take_it_too() -> None:
    model = nn.Linear(2, 1)
    callback = Watching(ranks=gs.Ranks(every=7))
    flow = callback._begin(model, torch.optim.SGD(model.parameters(), lr=0.1), 0)
    assert flow._recorder.ranks is not None
    assert flow._recorder.ranks.options == gs.Ranks(every=7)
    callback._end()


@pytest.mark.parametrize(
    ("ranks", "text"),
    [
        (0, "ranks: expected a number of steps, 1 or more; got 0"),
        ("ten", "ranks: expected a whole number or Ranks or None; got 'ten'"),
    ],
)
def test_a_number_of_steps_is_expected(ranks: Any, text: str) -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(ConfigError, match=text):
        gs.watch(model, torch.optim.SGD(model.parameters(), lr=0.1), ranks=ranks)


def test_the_seconds_of_a_silence_are_above_0() -> None:
    with pytest.raises(ConfigError, match=r"silence: expected a number of seconds above 0; got 0\.0"):
        gs.Ranks(silence=0.0)
