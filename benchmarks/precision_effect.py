"""What bf16 does to results: the same seeds in fp32 and bf16, beside what another seed does.

The quick preset's three baselines over ten seeds. `python benchmarks/precision_effect.py` takes five minutes
to half an hour, writes `results/precision_effect.json` and draws `results/precision_effect.png`. Where the
processor has no bfloat16 instructions, its convolutions are done in float32 on operands rounded to bfloat16,
and their results rounded again: what such instructions compute, up to the order of summation.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import conv2d

from gradscape._machine import cores
from gradscape.config.run import RunConfig
from gradscape.data import load_images
from gradscape.executors.base import MessageSink
from gradscape.executors.processes import Processes
from gradscape.records.run import RunRecord
from gradscape.report.figures.style import DPI, LOOKS, styled
from gradscape.stats.student_t import interval
from gradscape.storage.run_folder import RunFolder
from gradscape.studies.batchnorm.roles import NETWORKS
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.study.train_job import PRELOAD
from measure import RESULTS, write

SEEDS = 10
FORWARD = nn.Conv2d.forward
TITLES = {"vgg08": "VGG08", "vgg38": "VGG38", "vgg38-bn": "VGG38 + BatchNorm"}


@dataclass(frozen=True)
class Job:
    config: RunConfig
    folder: Path
    emulated: bool


def train(job: Job, report: MessageSink) -> RunRecord:
    """Train a run; in bf16 whatever the probe says of its speed."""
    from gradscape.train.loop import train_run
    from gradscape.train.precision import Arithmetic
    from gradscape.train.process import prepare_process

    prepare_process(threads=1)
    low = job.emulated and job.config.precision == "bf16"
    nn.Conv2d.forward = emulated if low else FORWARD  # type: ignore[method-assign]
    images = load_images(job.config.data.name)
    how = Arithmetic(job.config.precision)
    return train_run(job.config, RunFolder(job.folder), images, "cpu", report, how)


def emulated(self: nn.Conv2d, x: Tensor) -> Tensor:
    """A bfloat16 convolution by float32 instructions: rounded operands, exact products, rounded results."""
    with torch.autocast("cpu", enabled=False):
        weight, bias = (None if t is None else t.bfloat16().float() for t in (self.weight, self.bias))
        return conv2d(x.bfloat16().float(), weight, bias, padding=self.padding).bfloat16()


def results(runs: dict[tuple[str, str, int], RunRecord]) -> dict[str, Any]:
    """Curves of every run, and differences: of precisions at one seed, and of neighboring seeds in fp32."""
    found = {}
    for role in NETWORKS:
        by = {p: [runs[role, p, seed] for seed in range(SEEDS)] for p in ("fp32", "bf16")}
        last = {p: [run.curve("train_loss")[-1] for run in by[p]] for p in by}
        change = [low - full for low, full in zip(last["bf16"], last["fp32"], strict=True)]
        seeds = [abs(b - a) for a, b in zip(last["fp32"], last["fp32"][1:], strict=False)]
        first = {p: [run.flow.mean_abs[-1, run.flow.weights[0]] for run in by[p]] for p in by}
        found[role] = {
            "train_loss": {p: [run.curve("train_loss") for run in by[p]] for p in by},
            "train_accuracy": {p: [run.curve("train_accuracy") for run in by[p]] for p in by},
            "valid_accuracy": {p: [run.curve("valid_accuracy") for run in by[p]] for p in by},
            "last_loss_bf16_less_fp32": interval(change).to_dict(),
            "last_loss_seed_to_seed": sum(seeds) / len(seeds),
            "last_valid_accuracy_bf16_less_fp32": interval(
                [
                    low.curve("valid_accuracy")[-1] - full.curve("valid_accuracy")[-1]
                    for low, full in zip(by["bf16"], by["fp32"], strict=True)
                ]
            ).to_dict(),
            "first_layer_gradient": first,
        }
    return found


def draw(roles: dict[str, Any], path: Path) -> None:
    """Training loss of every seed, both precisions, a panel for each network."""
    with styled():
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        for panel, (role, values) in zip(figure.subplots(1, 3), roles.items(), strict=True):
            for look, precision in ((LOOKS[0], "fp32"), (LOOKS[1], "bf16")):
                for number, curve in enumerate(values["train_loss"][precision]):
                    panel.plot(
                        range(1, len(curve) + 1), curve, look.dash, color=look.color, marker=look.marker,
                        markersize=3, linewidth=1, label=None if number else precision,
                    )  # fmt: skip
            panel.set_title(TITLES[role], fontsize=10)
            panel.set_xlabel("epoch")
        figure.axes[0].set_ylabel("train loss (nats)")
        figure.axes[0].legend()
        figure.savefig(path, dpi=DPI, metadata={"Software": None})


def main() -> None:
    from gradscape.train.precision import decide

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", action="store_true", help="only draw what was measured before")
    parser.add_argument("--folder", type=Path, help="of the runs; by default a temporary one")
    given = parser.parse_args()
    if not given.draw:
        load_images("digits")  # cached before the workers ask
        with tempfile.TemporaryDirectory() as temporary:
            folder = given.folder or Path(temporary)
            fallback = decide("bf16", torch.device("cpu")).fallback
            roles = BATCHNORM.plan("quick", None, 1).configs
            keys = [(r, p, s) for s in range(SEEDS) for r in NETWORKS for p in ("fp32", "bf16")]
            jobs = {
                f"{r} {p} {s}": Job(
                    replace(roles[r], precision=p, seed=s), folder / f"{r}-{p}-{s}", bool(fallback)
                )
                for r, p, s in keys
            }
            with Processes(train, cores(), preload=PRELOAD) as executor:
                done = {name: executor.submit(name, job) for name, job in jobs.items()}
                runs = {(r, p, s): done[f"{r} {p} {s}"].result() for r, p, s in keys}
            write("precision_effect", {"seeds": SEEDS, "emulated": fallback, "roles": results(runs)})
    draw(
        json.loads((RESULTS / "precision_effect.json").read_text())["roles"], RESULTS / "precision_effect.png"
    )


if __name__ == "__main__":
    main()
