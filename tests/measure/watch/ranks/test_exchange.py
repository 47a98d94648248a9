"""The thread of a rank, on a store within this process: what it leaves, and how it ends."""

from __future__ import annotations

import numpy as np
import torch
from torch.distributed import HashStore

from gradscape.measure.watch.ranks.board import Board
from gradscape.measure.watch.ranks.comparison import Row
from gradscape.measure.watch.ranks.exchange import WAITING, Draft, Exchange
from gradscape.measure.watch.ranks.silence import Beat
from gradscape.records.ranks import RankSilence

KEYS = ("p a.weight 2 0-1",)


def told(_: RankSilence) -> None:
    raise AssertionError("nobody is silent")


def draft(step: int) -> Draft:
    return Draft((step, step, 0, (0.1,), "m"), KEYS, torch.tensor([[step], [0]]), None)


def test_rows_are_compared_and_removed() -> None:
    board = Board(HashStore(), "test")
    exchange = Exchange(board, 0, 2, 60.0, lambda: (0, 0), told)
    board.put(f"beat/{1}", Beat(1, 3, 3).encode())
    for step in (1, 2):
        row = Row(step, step, 0, (0.1,), "m", KEYS, np.array([[2], [0]]))
        board.put(f"row/{step}/1", row.sums.tobytes())
        board.put(f"head/{step}/1", row.head())
        assert exchange.add(draft(step))
    exchange.close()
    (difference,) = exchange.comparison.differences
    assert (difference.ranks, difference.names, difference.step) == ((0, 1), ("a.weight",), 1)
    assert (exchange.comparison.step, exchange.error) == (2, "")
    assert board.take(["row/1/0", "head/2/0"]) == [None, None]
    assert board.take(["done"]) == [b"2"]


def test_rows_that_nobody_reads_are_left_out_from_some_number_on() -> None:
    exchange = Exchange(Board(HashStore(), "test"), 1, 2, 60.0, lambda: (0, 0), told)
    assert [exchange.add(draft(step)) for step in range(1, WAITING + 3)].count(False) == 2
    exchange.close()


def test_a_training_that_is_not_counted_any_more_is_no_standstill() -> None:
    board = Board(HashStore(), "test")
    exchange = Exchange(board, 1, 2, 60.0, lambda: None, told)
    exchange._thread.join(10)
    assert not exchange._thread.is_alive()
    (line,) = board.take(["beat/1"])
    assert line is not None
    assert Beat.decode(line).closed


def test_a_store_that_fails_ends_the_exchange_and_not_the_training() -> None:
    class Broken(Board):
        def put(self, name: str, note: bytes) -> None:
            raise RuntimeError("the host is gone")

    exchange = Exchange(Broken(HashStore(), "test"), 1, 2, 60.0, lambda: (0, 0), told)
    exchange._thread.join(10)
    assert exchange.error == "RuntimeError: the host is gone"
    assert not exchange.add(draft(1))
    exchange.close()
