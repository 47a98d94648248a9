"""Quick convolutions and BatchNorms against PyTorch's own, in value and in both derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradscape.measure.curvature.double_backward import Quick


def derivatives(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, gradient and a Hessian-vector product of a curved function of the output."""
    x = x.clone().requires_grad_()
    parameters = [x, *model.parameters()]
    output = model(x)
    gradient = torch.autograd.grad(output.sin().square().sum(), parameters, create_graph=True)
    torch.manual_seed(1)
    vector = [torch.randn_like(g) for g in gradient]
    return [output, *gradient, *torch.autograd.grad(gradient, parameters, vector, materialize_grads=True)]


def agree(model: nn.Module, x: Tensor) -> None:
    expected = derivatives(model, x)
    with Quick():
        found = derivatives(model, x)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def stirred(*layers: nn.Module) -> nn.Sequential:
    """In float64, with statistics and weights that are not those of the beginning."""
    torch.manual_seed(0)
    model = nn.Sequential(*layers).double()
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data += 0.2 * torch.rand_like(tensor)
    return model.eval()


CONVOLUTIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "1d": (lambda: nn.Conv1d(4, 6, 3), (2, 4, 9)),
    "2d without bias": (lambda: nn.Conv2d(4, 6, 3, padding=1, bias=False), (2, 4, 5, 6)),
    "strided and dilated": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2), (2, 4, 7, 8)),
    "grouped": (lambda: nn.Conv2d(4, 6, (1, 3), groups=2), (3, 4, 4, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), (3, 4, 4, 5)),
    "3d": (lambda: nn.Conv3d(2, 3, 2, stride=(1, 2, 1)), (2, 2, 3, 4, 3)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), (2, 4, 3, 4)),
    "transposed and grouped": (lambda: nn.ConvTranspose1d(4, 6, 3, groups=2, padding=1), (2, 4, 5)),
    "padded in words": (lambda: nn.Conv2d(4, 6, 3, padding="same"), (2, 4, 5, 5)),
    "padded by reflection": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 5, 5)),
    "called by names": (lambda: ByNames(4, 6, 3), (2, 4, 5, 6)),
    "without samples": (lambda: nn.Conv2d(4, 6, 3), (4, 5, 5)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_every_kind(name: str) -> None:
    make, shape = CONVOLUTIONS[name]
    x = torch.randn(shape, dtype=torch.float64)
    agree(stirred(make()), x)
    channels = stirred(make())(x).shape[1]
    norm: Any = {3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)]
    if name != "without samples":
        agree(stirred(make(), norm(channels)), x)


class ByNames(nn.Conv2d):
    """Calls torch's function by the names of its arguments."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.conv2d(input=input, weight=self.weight, bias=self.bias, padding=1)


class Twice(nn.Module):
    """The output of a convolution beside what its norm makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.norm(y)


class Changed(Twice):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x).mul_(2))


@pytest.mark.parametrize(
    "model",
    [
        stirred(nn.BatchNorm2d(2)),
        stirred(nn.BatchNorm2d(2, affine=False)),
        stirred(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.BatchNorm2d(3)),
        stirred(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, affine=False), nn.LeakyReLU(0.1, inplace=True)),
        stirred(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).train(),
        stirred(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)),
        stirred(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, affine=False), nn.Tanh()).train(),
        stirred(nn.BatchNorm2d(2, eps=0.1), nn.Tanh()).train(),
        stirred(nn.Flatten(), nn.BatchNorm1d(40), nn.Tanh(), nn.Linear(40, 3), nn.BatchNorm1d(3)).train(),
        stirred(nn.Unflatten(1, (1, 2)), nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2)).train(),
        stirred(Twice()),
        stirred(Changed()),
    ],
    ids=str,
)
def test_norms_wherever_they_stand(model: nn.Module) -> None:
    agree(model, torch.randn(3, 2, 5, 4, dtype=torch.float64))
