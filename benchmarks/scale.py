"""A watch of a large training: its bytes and seconds as formulas, held against what is measured here.

The training in question: a transformer of 70 billion parameters in 2,000 tensors, on 1,024 ranks by FSDP2,
over a million steps. Formulas are in `Watched`; what they predict is measured on 1, 2, 4 and 8 processes with
gloo (bytes sent), in one process with 2,000 tensors of up to 600 million parameters (memory, seconds), and by
feeding the folder of a watch with a training's rows. `python benchmarks/scale.py` takes about ten minutes and
writes `results/scale.json`; `--only` measures one part.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing as mp
import sys
import tempfile
import time
import tracemalloc
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

import gradscape as gs
from gradscape.measure.core.pieces import strides_of
from gradscape.measure.core.sketch import COLUMNS
from gradscape.measure.watch.distribution_reader import AT_ONCE, MOST
from gradscape.measure.watch.loss_values import CHUNK, CHUNKS
from gradscape.measure.watch.recorder import COLUMNS as READ
from gradscape.measure.watch.schedule import BUDGET, FIRST
from gradscape.measure.watch.thinned_rows import FEWEST
from gradscape.records.distributions import WIDTH
from gradscape.records.gradients import FlowHistory
from gradscape.records.loss import LossHistory
from gradscape.report.interactive.document import watch_document
from gradscape.storage.watch_folder import LARGEST, WatchReader, WatchWriter
from gradscape.storage.watch_lines import COLUMNS as WRITTEN
from measure import RESULTS, spread, write

WORLDS = (1, 2, 4, 8)
SIZES = (2_000_000, 100_000_000, 600_000_000)
CAPACITY = 1_000


@dataclass(frozen=True)
class Watched:
    """A training that is watched, and what that takes by the formulas.

    Attributes:
        parameters: Number of parameters.
        tensors: Number of their tensors.
        ranks: Number of ranks that they are sharded over.
        capacity: Rows in memory.
        distributions: Whether distributions are read too.
    """

    parameters: int
    tensors: int
    ranks: int = 1
    capacity: int = CAPACITY
    distributions: bool = False

    def copies(self) -> int:
        """Bytes of what a rank keeps of weights before the step and of the last gradient, in float32.

        Of a large model's tensors that is one in so many elements, evenly spread.
        """
        each = self.parameters // self.tensors
        (stride, *_) = strides_of([each] * self.tensors)
        local = -(-each // self.ranks)
        return 2 * 4 * self.tensors * -(-local // stride)

    def ring(self) -> int:
        """Bytes of the rows on the device, float64, and of the last reading."""
        return 8 * self.tensors * len(READ) * self.capacity + 8 * self.tensors * (len(READ) - 2)

    def sketches(self) -> int:
        """Bytes of the last sketches of gradients and weights on the device."""
        return 2 * self.tensors * COLUMNS * 4 if self.distributions else 0

    def quantiles(self) -> int:
        """Bytes of the readings of distributions on the host, float64, at most."""
        size = 2 * self.tensors * WIDTH
        return 8 * size * max(FEWEST, MOST // size) if self.distributions else 0

    def losses(self) -> int:
        """Bytes of losses on the host, at most: a float64 and a step each."""
        return CHUNK * CHUNKS * (8 + 8 + 32)

    def sent(self) -> int:
        """Bytes that a rank gives to all-reduces at a reading.

        Sums and maxima for each tensor (largest, sum, count, square, square and inner product of what is kept
        of gradients, squares of weights and update), the step to read next, and counts of distributions.
        """
        if self.ranks == 1:
            return 0
        return 8 * self.tensors * 8 + 8 + self.sketches()

    def collectives(self) -> int:
        """All-reduces at a reading."""
        return 0 if self.ranks == 1 else 8 + 2 * self.distributions * -(-self.tensors // AT_ONCE)

    def row(self) -> int:
        """Bytes of a row in the folder of a watch: float64 in base64, of each statistic and the rate."""
        return 8 * (len(WRITTEN) + 1) * self.tensors * 4 // 3 + 200

    def predicted(self) -> dict[str, int]:
        names = ("copies", "ring", "sketches", "quantiles", "losses", "sent", "collectives", "row")
        return {name: getattr(self, name)() for name in names}


# Bytes sent -----------------------------------------------------------------------------------------------


def sharded(layers: int) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(layers)))
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def rank(place: int, world: int, meeting: str, results: Any) -> None:
    """Count what watches give to all-reduces on a rank, without and with distributions."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=place, world_size=world)
    results.put((place, [counted_reading(distributions) for distributions in (False, True)]))
    dist.destroy_process_group()


def counted_reading(distributions: bool) -> tuple[int, int, float]:
    """Train a few steps; return bytes and calls of the last reading, and the fewest milliseconds of one."""
    model = sharded(layers=17)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    counted, original = [0, 0], dist.all_reduce

    def counting(tensor: Tensor, *given: Any, **named: Any) -> Any:
        counted[0] += tensor.nbytes
        counted[1] += 1
        return original(tensor, *given, **named)

    dist.all_reduce = counting  # FSDP2 itself calls none
    flow = gs.watch(model, optimizer, every=1, distributions=distributions)
    seconds = []
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 64)).square().mean().backward()
        counted[:] = [0, 0]
        before = flow._recorder.reader.spent
        optimizer.step()
        seconds.append(flow._recorder.reader.spent - before)
    dist.all_reduce = original
    assert not flow.error, flow.error
    flow.close()
    return counted[0], counted[1], 1e3 * min(seconds)


def sending(world: int) -> dict[str, Any]:
    """Bytes and calls of a reading on each of so many ranks, beside the prediction."""
    context = mp.get_context("spawn")
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=rank, args=(place, world, f"{folder}/meeting", results))
            for place in range(world)
        ]
        for each in processes:
            each.start()
        rows = sorted(results.get() for _ in processes)
        for each in processes:
            each.join()
    found = {}
    for which, name in enumerate(("plain", "distributions")):
        of = Watched(17 * (64 * 64 + 64), 34, world, distributions=bool(which))
        # `every` is given, so that no step has to be agreed on: eight bytes and a call less.
        agreed = int(world > 1)
        ((bytes_, calls),) = {row[1][which][:2] for row in rows}  # the same on each rank
        found[name] = {
            "predicted": {"bytes": of.sent() - 8 * agreed, "calls": of.collectives() - agreed},
            "measured": {"bytes": bytes_, "calls": calls},
            "ms": rows[0][1][which][2],
        }
    print(world, found)
    return found


# Memory and seconds in one process -------------------------------------------------------------------------


def many_tensors(parameters: int, tensors: int = 2_000) -> nn.Module:
    """A model of equally large matrices, as many as a transformer of 70 billion parameters has."""
    width = round((parameters / tensors) ** 0.5)
    torch.manual_seed(0)
    model = nn.Module()
    for number in range(tensors):
        model.register_parameter(f"layer{number}", nn.Parameter(torch.randn(width, width) * 0.02))
    return model


def tensor_bytes() -> int:
    """Bytes of all tensors in this process, each storage once."""
    gc.collect()
    held = {}
    for each in gc.get_objects():
        if isinstance(each, Tensor):
            held[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
    return sum(held.values())


def measured_alone(parameters: int, distributions: bool, steps: int = 5) -> dict[str, Any]:
    """Bytes on the device, bytes of Python's objects by row, and seconds of a reading."""
    model = many_tensors(parameters)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for each in model.parameters():
        each.grad = torch.randn_like(each)
    before = tensor_bytes()
    flow = gs.watch(model, optimizer, every=1, distributions=distributions)
    recorder, seconds, sizes = flow._recorder, [], []
    for step in range(steps):
        if step == 2:
            tracemalloc.start()
        for each in model.parameters():
            each.grad.mul_(0.9)
        start = recorder.reader.spent + recorder.distributions.spent
        optimizer.step()
        seconds.append(recorder.reader.spent + recorder.distributions.spent - start)
        if step >= 2:
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    held = tensor_bytes() - before
    of = Watched(sum(p.numel() for p in model.parameters()), 2_000, distributions=distributions)
    found = {
        "parameters": of.parameters,
        "predicted_device_bytes": of.copies() + of.ring() + of.sketches(),
        "measured_device_bytes": held,
        "host_bytes_per_row": (sizes[-1] - sizes[0]) / (len(sizes) - 1),
        "reading_s": spread(seconds[1:]),
    }
    flow.close()
    print(found)
    return found


def fitted(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of a reading as α for each element and β for each tensor, by least squares of the medians."""
    x = np.array([[row["parameters"], 2_000] for row in rows], dtype=float)
    y = np.array([row["reading_s"]["median"] for row in rows])
    alpha, beta = np.linalg.lstsq(x / y[:, None], np.ones(len(y)), rcond=None)[0]
    return {
        "seconds_per_element": float(alpha),
        "seconds_per_tensor": float(beta),
        "worst_relative_error": float(np.abs(x @ np.array([alpha, beta]) / y - 1).max()),
    }


# A million steps of rows ----------------------------------------------------------------------------------


def rows_of(tensors: int, rows: int) -> FlowHistory:
    """Rows as a watch would have them, of a training that goes well."""
    model = many_tensors(16 * tensors, tensors)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    flow = gs.watch(model, optimizer, every=1)
    for each in model.parameters():
        each.grad = torch.randn_like(each)
    for _ in range(3):
        optimizer.step()
    history = flow.history()
    flow.close()
    names = [name for name, each in vars(history).items() if isinstance(each, np.ndarray) and len(each) == 3]
    repeated: dict[str, Any] = {
        name: np.concatenate([getattr(history, name)] * -(-rows // 3))[:rows] for name in names
    }
    loss = LossHistory(np.zeros(0, dtype=np.int64), np.zeros(0))
    return replace(history, **repeated, loss=loss)


def fed(tensors: int, steps: int, every: int, at_once: int) -> dict[str, Any]:
    """Feed the folder of a watch: a row each `every` steps, `at_once` rows at a writing, and all losses."""
    part = rows_of(tensors, at_once)
    memory = CHUNK * CHUNKS
    largest, seconds, written = 0, [], 0
    with tempfile.TemporaryDirectory() as folder:
        writer = WatchWriter(Path(folder) / "w", "scale", time.time(), LARGEST)
        for first in range(0, steps, every * at_once):
            last = first + every * at_once
            losses = np.arange(max(0, last - memory), last)
            loss = LossHistory(losses, np.sin(losses))
            new = replace(part, steps=np.arange(first, last, every), loss=loss)
            start = time.perf_counter()
            writer.write(new, lambda new=new: new, step=last, written=time.time())
            seconds.append(time.perf_counter() - start)
            written += at_once
            largest = max(largest, sum(path.stat().st_size for path in writer.folder.path.iterdir()))
        found = read_back(writer.folder.path)
    found |= {
        "tensors": tensors,
        "steps": steps,
        "rows_written": written,
        "largest_folder_bytes": largest,
        "predicted_row_bytes": Watched(1, tensors).row(),
        "bound_bytes": LARGEST,
        "write_s_total": sum(seconds),
        "write_ms": spread([1e3 * each for each in seconds]),
    }
    print(found)
    return found


def read_back(folder: Path) -> dict[str, Any]:
    """Seconds to read, diagnose and show what is in the folder."""
    start = time.perf_counter()
    reader = WatchReader(folder)
    reader.poll()
    history = reader.history
    read = time.perf_counter()
    diagnosis = gs.diagnose(history)
    judged = time.perf_counter()
    document = watch_document(history, diagnosis, [])
    shown = time.perf_counter()
    return {
        "rows_kept": len(history.steps),
        "losses_kept": 0 if history.loss is None else len(history.loss.steps),
        "row_bytes": sum(path.stat().st_size for path in folder.glob("rows-*")) / max(1, len(history.steps)),
        "read_s": read - start,
        "diagnose_s": judged - read,
        "document_s": shown - judged,
        "document_bytes": len(json.dumps(document)),
    }


# All of it ------------------------------------------------------------------------------------------------


def at_scale(fit: dict[str, float], distributions: bool) -> dict[str, Any]:
    """What the formulas say of the training in question."""
    of = Watched(70_000_000_000, 2_000, 1_024, distributions=distributions)
    local = of.parameters / of.ranks
    reading = fit["seconds_per_element"] * local + fit["seconds_per_tensor"] * of.tensors
    return {
        "training": asdict(of),
        "predicted": of.predicted(),
        "rows_of_all_steps_bytes": 1_000_000 * of.row(),
        "reading_s_on_this_processor": reading,
        "share_of_time": BUDGET,
        "steps_between_readings_of_10_s_steps": max(1.0, reading / (BUDGET * 10.0)),
        "first_steps_read": FIRST,
    }


PARTS = {
    "sending": lambda: {str(world): sending(world) for world in WORLDS},
    "alone": lambda: {
        name: [measured_alone(size, which) for size in SIZES]
        for name, which in (("plain", False), ("distributions", True))
    },
    "folder": lambda: [fed(20, 1_000_000, 5, 1_000), fed(2_000, 1_000_000, 2_000, 10)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=tuple(PARTS))
    only = parser.parse_args().only
    torch.set_num_threads(1)
    path = RESULTS / "scale.json"
    found = json.loads(path.read_text()) if only and path.exists() else {}
    found.pop("machine", None)
    for name in [only] if only else PARTS:
        found[name] = PARTS[name]()
        sys.stdout.flush()
    if "alone" in found:
        found["fit"] = {name: fitted(rows) for name, rows in found["alone"].items()}
        found["at_scale"] = {
            name: at_scale(found["fit"][name], name == "distributions") for name in found["fit"]
        }
    write("scale", found)


if __name__ == "__main__":
    main()
