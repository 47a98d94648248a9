"""State that training changes: weights, optimizer, best weights so far; to arrays and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradscape.config.run import RunConfig
from gradscape.errors import StoreError, first_line
from gradscape.measure.core.parameter_kinds import parameters_and_kinds
from gradscape.records.gradients import WEIGHT_KINDS
from gradscape.storage.checkpoint import Checkpoint
from gradscape.train.model import build_model


def build_optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return Adam or SGD in one operation; on CUDA step count and learning rate stay there, for graphs.

    Args:
        config: Configuration of the run.
        model: Model, on the run's device.
    """
    optim = config.optim
    device = next(model.parameters()).device
    on_cuda = device.type == "cuda"
    lr = torch.tensor(optim.lr, device=device) if on_cuda else optim.lr
    parameters = _penalized_groups(model) if optim.decayed == "weights" else model.parameters()
    if optim.name == "sgd":  # it counts no steps; fused, its kernel reads the rate where it lies
        return torch.optim.SGD(parameters, lr, optim.momentum, weight_decay=optim.weight_decay, fused=True)
    return torch.optim.Adam(
        parameters,
        lr=lr,
        capturable=on_cuda,
        betas=(optim.beta1, optim.beta2),
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        fused=True,
    )


def _penalized_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return groups: weights of convolutions and linear layers, and biases and norms without a penalty."""
    kinds = {id(parameter): kind for _, kind, parameter in parameters_and_kinds(model)}
    weights, rest = (
        [p for p in model.parameters() if (kinds[id(p)] in WEIGHT_KINDS) is wanted]
        for wanted in (True, False)
    )
    return [{"params": weights}, {"params": rest, "weight_decay": 0.0}]


class TrainState:
    """Everything a run needs to go on after an epoch, and nothing else.

    Args:
        config: Configuration of the run.
        device: Device of the run.

    Attributes:
        model, optimizer: Model and optimizer, on the run's device.
        random: True if the model draws random numbers in training.
        repeats: True if the model gives the same loss for a mini-batch again in training: with random numbers
            it does not, nor with a norm that looks at its moving averages.
        optimizer_name: Name of the optimizer in checkpoints, `adam` or `sgd`.
        epoch: Number of epochs finished.
        best_epoch, best_accuracy: First epoch of highest validation accuracy, and that accuracy.
        best_weights: State of the model then, on the CPU.
    """

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.model = build_model(config, device)
        self.optimizer = build_optimizer(config, self.model)
        self.random = config.net.random
        self.repeats = not self.random and config.net.norm != "renorm"
        self.optimizer_name = config.optim.name
        self.epoch = 0
        self.best_epoch = 0
        self.best_accuracy = -1.0
        self.best_weights: dict[str, Tensor] = {}

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of every group.

        Args:
            lr: Learning rate.
        """
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def finish_epoch(self, valid_accuracy: float) -> None:
        """Count an epoch, and keep its weights if they are the best.

        Args:
            valid_accuracy: Validation accuracy after the epoch, 0 to 1.
        """
        self.epoch += 1
        if valid_accuracy > self.best_accuracy:
            self.best_epoch, self.best_accuracy = self.epoch, valid_accuracy
            self.best_weights = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}

    def weights(self) -> dict[str, np.ndarray]:
        """Return the model's tensors alone."""
        return {name: _as_array(value) for name, value in self.model.state_dict().items()}

    def checkpoint(self) -> Checkpoint:
        """Return the state in arrays and values."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        for index, parameter in enumerate(self.model.parameters()):
            for name, value in self.optimizer.state[parameter].items():
                tensors[f"{self.optimizer_name}.{index}.{name}"] = value
        return Checkpoint(
            epoch=self.epoch,
            arrays={name: _as_array(value) for name, value in tensors.items()},
            values={"best_epoch": self.best_epoch, "best_accuracy": self.best_accuracy},
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over the state of a checkpoint, memory layout included: results stay bit-identical.

        Args:
            checkpoint: Checkpoint of the same run.

        Raises:
            StoreError: It is of another network or optimizer.
        """
        try:
            self._take(checkpoint)
        except (RuntimeError, KeyError, TypeError) as error:
            raise StoreError(
                f"the checkpoint of epoch {checkpoint.epoch} does not fit its run ({first_line(error)}); "
                "delete the run's folder and give the same command again"
            ) from error

    def _take(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(section(checkpoint.arrays, "model."))
        self.best_weights = section(checkpoint.arrays, "best.")
        for index, parameter in enumerate(self.model.parameters()):
            state = section(checkpoint.arrays, f"{self.optimizer_name}.{index}.")
            self.optimizer.state[parameter] = {
                name: torch.empty_like(parameter).copy_(value)
                if value.shape == parameter.shape
                else value.to(parameter.device)
                for name, value in state.items()
            }
        self.epoch = checkpoint.epoch
        self.best_epoch = checkpoint.values["best_epoch"]
        self.best_accuracy = checkpoint.values["best_accuracy"]


def _as_array(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().cpu(), order="C")


def section(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    """Return the arrays whose names start with a prefix, in tensors, without it.

    Args:
        arrays: Array per name.
        prefix: Beginning of the names.
    """
    return {
        name.removeprefix(prefix): torch.from_numpy(np.array(value))
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
