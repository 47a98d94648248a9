"""A recorded run as what a watch would have seen of it, an epoch a row; and what its divergence says."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gradscape.errors import ConfigError
from gradscape.records.diagnosis import Evidence, Finding
from gradscape.records.encoding import Values
from gradscape.records.gradients import FlowHistory, OptimizerFacts
from gradscape.records.run import RunRecord

BEYOND = 2.0  # times the accuracy of guessing: who is above has begun to learn
WINDOW, SHARE = 5, 3  # epochs at most, of a shorter run its last third: what a final accuracy is the mean of
ENOUGH = 50  # steps: who has made fewer is not judged
MODULES = {"leaky_relu": "LeakyReLU", "relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid", "gelu": "GELU",
           "selu": "SELU"}  # fmt: skip
NAMES = {"adam": "Adam", "sgd": "SGD"}  # of torch's classes
UNSIZED = (
    "the sizes of layers are not recorded: where layers are compared, RMS of their elements stand for norms"
)


def recorded(record: RunRecord) -> FlowHistory:
    """The gradient statistics of a run's epochs, each the mean over an epoch's mini-batches.

    ‖∂L/∂W‖ is RMS · √size, by the sizes that `start.json` holds. Runs from before it was kept have none: to
    them every size is 1, which leaves all ratios within a layer as they are. There is no agreement between
    epochs: it is NaN.

    Args:
        record: of any state, with one epoch at least.

    Raises:
        ConfigError: no epoch, epochs read without their statistics, an SGD run without sizes.
    """
    if not record.epochs:
        raise ConfigError(f"watched: run {record.identity} has no epoch yet: train one, then diagnose")
    flows = [epoch.flow for epoch in record.epochs]
    if not all(flow.rms for flow in flows):
        raise ConfigError(
            f"watched: run {record.identity} was read without the gradient statistics of every epoch; read "
            "it with gs.load(DIR) or gs.RunFolder(DIR).record()"
        )
    layers = flows[0].layers

    def table(name: str) -> Values:
        return np.array([getattr(flow, name) for flow in flows], dtype=np.float64)

    sizes, norms = _sizes_of(record), all(flow.weight_norm for flow in flows)
    gradient = table("rms") * np.sqrt(np.array(sizes or 1.0))
    weight = table("weight_norm") if norms and sizes else _weight_of(gradient, table("relative"))
    return FlowHistory(
        layers=layers,
        kinds=flows[0].kinds,
        sizes=sizes or (1,) * len(layers),
        steps=np.array([epoch.epoch for epoch in record.epochs]),
        skipped=np.zeros(len(flows), dtype=np.bool_),
        mean_abs=table("mean_abs"),
        max_abs=table("max_abs"),
        rms=table("rms"),
        zeros=table("zeros"),
        nonfinite=(table("nonfinite") > 0).astype(np.float64),
        agreement=np.full(gradient.shape, np.nan),
        weight=weight,
        update=table("update") * weight,
        optimizers=(_facts(record),),
        seen="after backward and before the step; each row is the mean over an epoch's mini-batches",
        notes=() if sizes else (UNSIZED,),
        row="epoch",
        shapes=_shapes_of(layers, sizes) if sizes else (),
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
    """That the run has not left guessing, however healthy its gradients are."""
    if record.start is None or record.start.kinds[-1] != "bias":
        return []
    classes = record.start.sizes[-1]  # of the last layer's outputs
    window = record.epochs[-max(1, min(WINDOW, len(record.epochs) // SHARE)) :]
    accuracy = float(np.mean([epoch.train_accuracy for epoch in window]))
    steps = len(record.epochs) * math.ceil(record.config["data"]["train"] / record.config["batch_size"])
    if not accuracy < BEYOND / classes or steps < ENOUGH:
        return []
    return [
        Finding(
            verdict="does not learn",
            layer="",
            cause=f"after {steps} steps the loss on training images is {window[-1].train_loss:.3g}, and "
            f"guessing's is {math.log(classes):.3g}, however healthy the gradients are",
            remedy="another learning rate; look at labels, the loss and the last layer; train for longer",
            evidence=(
                Evidence(
                    "accuracy on training images, mean of the last epochs",
                    accuracy,
                    BEYOND / classes,
                    "twice guessing's, as the studies count who trains",
                    below=True,
                ),
            ),
        )
    ]


def _sizes_of(record: RunRecord) -> tuple[int, ...]:
    """Elements of each parameter tensor; empty where they are not known.

    Raises:
        ConfigError: of an SGD run, whose steps are judged by what they change of the loss.
    """
    if record.start is not None:
        known = dict(zip(record.start.layers, record.start.sizes, strict=True))
        return tuple(known[layer] for layer in record.epochs[0].flow.layers)
    if _facts(record).eps is None:
        raise ConfigError(
            f"watched: run {record.identity} has no start.json, and without the sizes of its layers steps "
            "of SGD cannot be judged; train it again in another folder"
        )
    return ()


def _weight_of(gradient: Values, relative: Values) -> Values:
    """‖W‖ of ‖∂L/∂W‖ and ‖∂L/∂W‖/‖W‖, which is 0 where W is; without a gradient 1: updates stay relative."""
    unknown = np.where(gradient > 0, 0.0, 1.0)
    found: Values = np.divide(gradient, relative, out=unknown, where=relative > 0)
    return found


def _facts(record: RunRecord) -> OptimizerFacts:
    """Of the run's optimiser; runs from before there was a choice have Adam."""
    optim = record.config["optim"]
    name = optim.get("name", "adam")
    adam = name == "adam"
    return OptimizerFacts(
        name=NAMES[name],
        lr=record.epochs[-1].lr,
        eps=optim["eps"] if adam else None,
        momentum=None if adam else optim["momentum"],
        members=tuple(range(len(record.epochs[0].flow.layers))),
        plain=not adam,
    )


def divergence(record: RunRecord) -> list[Finding]:
    """That the run's loss stopped being a number, which its whole epochs do not show."""
    if record.state != "diverged":
        return []
    place = f"epoch {record.status['epoch']}, step {record.status['step']}"
    return [
        Finding(
            verdict="non-finite",
            layer="",
            cause=f"the loss became infinite or NaN in {place}; further findings are of the epochs before",
            remedy="a lower learning rate; warm-up; clip gradients; check inputs and labels for NaN",
            evidence=(Evidence("steps whose loss is not a number, after which it ended", 1, 0, "IEEE 754"),),
        )
    ]
