"""Where the time of a training step goes: VGG38 with BatchNorm on one thread.

`python benchmarks/step_profile.py` takes two minutes, prints tables and writes
`results/step_profile-INSTRUCTIONS.json`: each operation's share of a step at the paper's size and at the
quick preset's, the rate that convolutions reach alone, and a vanishing step with denormals flushed and not.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch.nn.functional import conv2d

from gradscape.config.run import RunConfig
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.study.network_cost import dummy_step, macs_per_image
from gradscape.train.precision import decide
from gradscape.train.process import prepare_process
from measure import spread, write

CPU = torch.device("cpu")
PROFILED, TIMED = 5, 15  # steps
OPERATIONS = {
    "aten::mkldnn_convolution": "convolutions, forward",
    "aten::convolution_backward": "convolutions, backward",
    "aten::native_batch_norm": "BatchNorm, forward",
    "aten::native_batch_norm_backward": "BatchNorm, backward",
    "aten::leaky_relu_": "LeakyReLU, forward",
    "aten::leaky_relu_backward": "LeakyReLU, backward",
    "aten::avg_pool2d": "average pooling",
    "aten::avg_pool2d_backward": "average pooling",
    "aten::_fused_adam_": "Adam",
}
PARTS = ("cut the mini-batch", "gradient flow")


def profiled(config: RunConfig) -> dict[str, Any]:
    """What `profiled_step` finds of a run's step, and its images per second."""
    step = dummy_step(config, CPU, PROFILED + TIMED + 2)
    step.batches.take = named(PARTS[0], step.batches.take)  # type: ignore[method-assign]
    step.flow.before_step = named(PARTS[1], step.flow.before_step)  # type: ignore[method-assign]
    step.flow.after_step = named(PARTS[1], step.flow.after_step)  # type: ignore[method-assign]
    found = profiled_step(lambda: step(config.batch_size), 6 * macs_per_image(config) * config.batch_size)
    return {"images_per_second": 1e3 * config.batch_size / found["step_ms"]["median"], **found}


def profiled_step(step: Callable[[], object], flop: float) -> dict[str, Any]:
    """Milliseconds of a step of `flop` operations, its rate, and the shares of it that each kind takes."""
    for _ in range(2):
        step()
    milliseconds = [1e3 * seconds(step) for _ in range(TIMED)]
    with torch.profiler.profile() as profile:
        for _ in range(PROFILED):
            step()
    events = profile.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    shares: dict[str, float] = defaultdict(float)
    for event in events:
        if event.key in OPERATIONS:
            shares[OPERATIONS[event.key]] += event.self_cpu_time_total / total
        elif event.key in PARTS:
            shares[event.key] += event.cpu_time_total / total
    shares["everything else"] = 1 - sum(shares.values())
    convolving = sum(share for name, share in shares.items() if name.startswith("convolutions"))
    return {
        "step_ms": spread(milliseconds),
        "gflops": flop / median(milliseconds) / 1e6,
        "gflops_within_convolutions": flop / (convolving * median(milliseconds)) / 1e6,
        "shares": dict(sorted(shares.items(), key=lambda item: -item[1])),
    }


def named(name: str, act: Callable[..., Any]) -> Callable[..., Any]:
    def within(*arguments: Any) -> Any:
        with torch.profiler.record_function(name):
            return act(*arguments)

    return within


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def convolutions(sizes: Sequence[int], batch: int, dtype: torch.dtype) -> list[dict[str, Any]]:
    """GFLOP/s of the network's inner convolutions alone, at each image size, with operands in the cache."""
    rows = []
    backward = torch.ops.aten.convolution_backward
    for size in sizes:
        x, of_out = (
            torch.randn(batch, 32, size, size).to(dtype).contiguous(memory_format=torch.channels_last)
            for _ in range(2)
        )
        weight = torch.randn(32, 32, 3, 3).to(dtype).contiguous(memory_format=torch.channels_last)
        settings = (of_out, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
        acts = {
            "forward": lambda x=x, weight=weight: conv2d(x, weight, padding=1),
            "of_input": lambda s=settings: backward(*s, [True, False, False]),
            "of_weight": lambda s=settings: backward(*s, [False, True, False]),
        }
        flop = 2 * batch * size**2 * 9 * 32 * 32
        rates = {}
        for name, act in acts.items():
            act()
            rates[name] = flop / min(seconds(act) for _ in range(30)) / 1e9
        rows.append({"size": size, "batch": batch, **rates})
    return rows


VANISHING = """
import sys, time, torch
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.study.network_cost import dummy_step
from gradscape.train.precision import Arithmetic
torch.set_flush_denormal(sys.argv[1] == "flushed")
torch.set_num_threads(1)
config = BATCHNORM.plan("quick", None, 1).configs["vgg38"]
step = dummy_step(config, torch.device("cpu"), 40, Arithmetic("fp32"))
for _ in range(40):
    start = time.perf_counter()
    step(config.batch_size)
    print(1e3 * (time.perf_counter() - start))
"""


def vanishing(mode: str) -> dict[str, Any]:
    """Milliseconds of a step of VGG38 without BatchNorm in a process that flushes denormals, or does not."""
    done = subprocess.run([sys.executable, "-c", VANISHING, mode], capture_output=True, text=True, check=True)
    return spread([float(line) for line in done.stdout.split()[10:]])


def main() -> None:
    prepare_process(threads=1)
    torch.manual_seed(0)
    paper, quick = (BATCHNORM.plan(preset, None, 1).configs["vgg38-bn"] for preset in ("paper", "quick"))
    steps = {"32×32, batch 100, fp32": profiled(paper), "16×16, batch 20, fp32": profiled(quick)}
    alone = {"fp32": convolutions((32, 16, 8), 20, torch.float32)}
    if not decide("bf16", CPU).fallback:
        steps["32×32, batch 100, bf16"] = profiled(replace(paper, precision="bf16"))
        alone["bf16"] = convolutions((32, 16, 8), 20, torch.bfloat16)
    denormals = {mode: vanishing(mode) for mode in ("flushed", "kept")}
    for name, step in steps.items():
        print(f"\n{name}: {step['step_ms']['median']:.1f} ms, {step['images_per_second']:.0f} images/s")
        for operation, share in step["shares"].items():
            print(f"  {operation:<26} {share:6.1%}")
    for row in (row for rows in alone.values() for row in rows):
        print(row)
    print(denormals)
    write(
        f"step_profile-{torch.backends.cpu.get_cpu_capability().lower()}",
        {"steps": steps, "convolutions_alone": alone, "vanishing_step_ms": denormals},
    )


if __name__ == "__main__":
    main()
