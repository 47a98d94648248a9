"""A recorded run as what a watch would have seen of it, an epoch a row; and what its divergence says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gradscape.config.run import DATASETS
from gradscape.errors import ConfigError
from gradscape.measure.diagnose.advice import ANOTHER, FIND_RATE_OF_RUN, LOWER, options
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.gradients import FlowHistory, OptimizerFacts
from gradscape.records.run import RunRecord

BEYOND = 2.0  # times the accuracy of guessing: who is above has begun to learn
ENOUGH = 50  # steps: a run of fewer that guesses may still learn
MODULES = {"leaky_relu": "LeakyReLU", "relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid", "gelu": "GELU",
           "selu": "SELU"}  # fmt: skip
NAMES = {"adam": "Adam", "sgd": "SGD"}  # of torch's classes


def recorded(record: RunRecord) -> FlowHistory:
    """The gradient flow of a run, with what its configuration says of the optimizer and the network.

    There is no agreement between epochs: it is NaN.

    Args:
        record: of any state, with one epoch at least.

    Raises:
        ConfigError: no epoch, or epochs read without their gradients.
    """
    if record.flow is None or not record.epochs:
        raise ConfigError(f"watched: run {record.identity} has no epoch yet: train one, then diagnose")
    if len(record.flow.steps) != len(record.epochs):
        raise ConfigError(
            f"watched: run {record.identity} was read without the gradient statistics of every epoch; read "
            "it with gs.load(DIR) or gs.RunFolder(DIR).record()"
        )
    return replace(
        record.flow,
        nonfinite=(record.flow.nonfinite > 0).astype(np.float64),
        optimizers=(_facts(record, record.flow),),
        shapes=_shapes_of(record.flow.layers, record.flow.sizes),
        modules=tuple(MODULES[name] for name in [record.config["net"].get("activation")] if name in MODULES),
    )


def _shapes_of(layers: Sequence[str], sizes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """(outputs, inputs × positions) of each weight whose layer has a bias, (elements) of others."""
    known = dict(zip(layers, sizes, strict=True))
    found = []
    for layer, size in known.items():
        outputs = known.get(f"{layer.removesuffix('weight')}bias") if layer.endswith("weight") else None
        found.append((outputs, size // outputs) if outputs else (size,))
    return tuple(found)


def plateau(record: RunRecord) -> list[Finding]:
    """Return the finding that a run guesses, however healthy its gradients are; none if it does better.

    Args:
        record: Record of a run with at least one epoch.
    """
    classes = _classes(record)
    accuracy = float(np.mean([epoch.train_accuracy for epoch in record.last_epochs]))
    steps = len(record.epochs) * math.ceil(record.config["data"]["train"] / record.config["batch_size"])
    if not accuracy < BEYOND / classes:
        return []
    early = steps < ENOUGH
    evidence = [
        Symptom(
            "accuracy on training images, mean of the last epochs",
            accuracy,
            BEYOND / classes,
            "twice guessing's, as the studies count who trains",
            below=True,
        ),
        Symptom("steps", steps, ENOUGH, "a network that learns has begun to by then", below=True),
    ]
    return [
        Finding(
            verdict="too early to tell" if early else "does not learn",
            layer="",
            cause=f"after {steps} steps the loss on training images is {record.epochs[-1].train_loss:.3g}, "
            f"and guessing's is {math.log(classes):.3g}, however healthy the gradients are",
            remedy="train for longer"
            if early
            else options(
                ANOTHER,
                FIND_RATE_OF_RUN,
                "look at labels, the loss and the last layer",
                "train for longer",
            ),
            evidence=tuple(evidence if early else evidence[:1]),
        )
    ]


def _classes(record: RunRecord) -> int:
    """Return the number of the network's outputs: of its last bias, or of the data set's classes."""
    if record.flow is not None and record.flow.kinds[-1] == "bias":
        return record.flow.sizes[-1]
    return DATASETS[record.config["data"]["name"]].classes


def _facts(record: RunRecord, flow: FlowHistory) -> OptimizerFacts:
    """Facts of the run's optimizer."""
    optim = record.config["optim"]
    adam = optim["name"] == "adam"
    return OptimizerFacts(
        name=NAMES[optim["name"]],
        lr=record.epochs[-1].lr,
        eps=optim["eps"] if adam else None,
        momentum=None if adam else optim["momentum"],
        members=tuple(range(len(flow.layers))),
        plain=not adam,
    )


def divergence(record: RunRecord) -> list[Finding]:
    """Return the finding that the run's loss stopped being a number, which its whole epochs do not show.

    Args:
        record: Record of a run.
    """
    if record.state != "diverged":
        return []
    place = f"epoch {record.status['epoch']}, step {record.status['step']}"
    others = "; further findings are of the epochs before" if record.epochs else ""
    return [
        Finding(
            verdict="non-finite",
            layer="",
            cause=f"the loss became infinite or NaN in {place}{others}",
            remedy=options(
                LOWER, FIND_RATE_OF_RUN, "warm-up", "clip gradients", "check inputs and labels for NaN"
            ),
            evidence=(Symptom("steps whose loss is not a number, after which it ended", 1, 0, "IEEE 754"),),
        )
    ]
