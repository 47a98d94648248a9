"""Modes of dropout and normalization layers at a step, and how far running statistics are from a batch's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.utils.hooks import RemovableHandle

from gradscape.measure.core.layer_trace import Hook
from gradscape.measure.core.parameters import strip_wrappers
from gradscape.measure.watch.running_gaps import Gaps
from gradscape.measure.watch.step_reading import is_out_of_reach

STRONG = 0.5  # probability from which a dropout counts: less is usual in every block of a transformer


class Modes:
    """Modules of a model that act otherwise in eval mode.

    Args:
        model: Watched model, without wrappers.

    Attributes:
        number: Number of such modules.
        running: Gaps of BatchNorm modules in train mode since they were taken.
        settled: Whether they are read: running statistics take a while to be those of the data.
        is_due: Whether the step is read at all.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = [
            (strip_wrappers(name), module)
            for name, module in model.named_modules()
            if _depends_on_mode(module)
        ]
        self.number = len(self._modules)
        self._spectral = [
            (strip_wrappers(name).partition(".parametrizations.")[0], module)
            for name, module in model.named_modules()
            if _is_spectral(module)
        ]
        self._gaps: list[Tensor] = []  # of the calls since the last reading
        self._single: list[str] = []
        self.running = Gaps()
        self.settled, self.is_due = False, True

    def evaluating(self) -> tuple[str, ...]:
        """Return the names of the modules that are in eval mode."""
        return tuple(name for name, module in self._modules if not module.training)

    def dropout(self) -> tuple[tuple[str, ...], float]:
        """Return the names of modules in train mode that drop half or more, and the share they keep."""
        names, kept = [], 1.0
        for name, module in self._modules:
            if isinstance(module, _DropoutNd) and module.training and module.p >= STRONG:
                names.append(name)
                kept *= 1 - module.p
        return tuple(names), kept

    def still_norms(self) -> tuple[str, ...]:
        """Return the names of modules under spectral_norm in eval mode, whose norm is not estimated."""
        return tuple(name for name, module in self._spectral if not module.training)

    def hooks(self) -> list[RemovableHandle]:
        """Hook the BatchNorm modules, whose inputs are read from now on."""
        norms = [(name, module) for name, module in self._modules if isinstance(module, _BatchNorm)]
        before = [
            module.register_forward_pre_hook(Hook(lambda m, given, name=name: self._read(name, m, given)))
            for name, module in norms
        ]
        after = [
            module.register_forward_hook(Hook(lambda m, _, output, name=name: self._after(name, m, output)))
            for name, module in norms
        ]
        return [*before, *after]

    def _after(self, name: str, module: Any, output: Any) -> None:
        if self.is_due and self.settled and module.training and not is_out_of_reach():
            self.running.add(name, module, output)

    @torch.no_grad()
    def _read(self, name: str, module: Any, given: tuple[Any, ...]) -> None:
        values = given[0] if given and self.is_due else None
        if not isinstance(values, Tensor) or values.dim() < 2 or values.shape[1] != module.num_features:
            return
        if module.training:
            if values.numel() == module.num_features:
                self._single.append(name)
            return
        mean = values.detach().float().transpose(0, 1).flatten(1).mean(1)
        scale = (module.running_var.float() + module.eps).sqrt()
        self._gaps.append(((mean - module.running_mean.float()) / scale).square().mean().sqrt())

    def take(self) -> tuple[Tensor | None, tuple[str, ...]]:
        """Return the largest gap of running statistics, on its device, and modules with one value a channel.

        The gap is (batch's mean − running mean)/√(running variance + ε), its root mean square over channels,
        of the calls in eval mode since this was called; None without any.
        """
        gap = torch.stack(self._gaps).max() if self._gaps else None
        single = tuple(dict.fromkeys(self._single))
        self._gaps, self._single = [], []
        return gap, single


def _is_spectral(module: nn.Module) -> bool:
    """Return True for a parametrization by a spectral norm, or a module with its older hook."""
    if type(module).__name__ == "_SpectralNorm":
        return True
    return any(isinstance(hook, SpectralNorm) for hook in module._forward_pre_hooks.values())


def _depends_on_mode(module: nn.Module) -> bool:
    if isinstance(module, _DropoutNd):
        return module.p > 0
    return isinstance(module, _BatchNorm) and module.running_mean is not None
