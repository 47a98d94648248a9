"""What recording the gradient flow adds to a training step: its calls timed within the step.

VGG38 with BatchNorm on one thread: 32×32 images in batches of 100 (the paper) and 16×16 in batches of 20
(the quick preset). `python benchmarks/gradient_flow_cost.py` prints a table and writes
`results/gradient_flow_cost.json`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from gradscape import FlowRecorder
from gradscape.config.run import RunConfig
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.train.process import prepare_process
from gradscape.train.state import TrainState
from measure import spread, write

ROUNDS = 15


def measured(config: RunConfig) -> dict[str, Any]:
    """Milliseconds of a step without recording, of the recording itself, and their ratio in per cent.

    Steps with and without, interleaved, differ by more than this from one to the next on a noisy machine.
    """
    state = TrainState(config, torch.device("cpu"))
    size = config.data.dataset.size
    x = torch.rand(config.batch_size, 3, size, size).to(memory_format=torch.channels_last)
    y = torch.zeros(config.batch_size, dtype=torch.int64)
    flow = FlowRecorder(state.model)

    def step() -> tuple[float, float]:
        """Milliseconds of the step, and of them in the recorder."""
        start = time.perf_counter()
        state.optimizer.zero_grad(set_to_none=True)
        cross_entropy(state.model(x), y).backward()
        read = time.perf_counter()
        flow.before_step()
        begun = time.perf_counter()
        state.optimizer.step()
        stepped = time.perf_counter()
        flow.after_step()
        end = time.perf_counter()
        recording = (begun - read) + (end - stepped)
        return 1e3 * (end - start - recording), 1e3 * recording

    step()  # the first allocates and plans
    rounds = [step() for _ in range(ROUNDS)]
    return {
        "step_ms": spread([rest for rest, _ in rounds]),
        "recording_ms": spread([recording for _, recording in rounds]),
        "added_percent": spread([100 * recording / rest for rest, recording in rounds]),
    }


def main() -> None:
    prepare_process(threads=1)
    paper = BATCHNORM.plan("paper", None, 1).configs["vgg38-bn"]
    quick = BATCHNORM.plan("quick", None, 1).configs["vgg38-bn"]
    results = {
        "32×32, batch 100": measured(replace(paper, epochs=1)),
        "16×16, batch 20": measured(replace(quick, epochs=1)),
    }
    for name, result in results.items():
        added, rest = result["added_percent"], result["step_ms"]["median"]
        print(
            f"{name:<18} {rest:8.1f} ms a step, recording adds "
            f"{added['median']:+.1f} % ({added['min']:+.1f} … {added['max']:+.1f}, n = {added['n']})"
        )
    write("gradient_flow_cost", {"steps": results})


if __name__ == "__main__":
    main()
