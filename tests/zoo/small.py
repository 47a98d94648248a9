"""Small models, each with one oddity that people's models have."""

from __future__ import annotations

import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from zoo.cases import Case

torch.manual_seed(0)
X, Y = torch.randn(6, 8), torch.arange(6) % 3
TOKENS = torch.arange(24).reshape(6, 4) % 5


def mlp(*between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 8), *between, nn.Tanh(), nn.Linear(8, 3))


class TwoNames(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()
        self.head = self.net[2]

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Tied(nn.Module):
    def __init__(self, sparse: bool = False) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(5, 3, sparse=sparse), nn.Linear(3, 5, bias=False)
        if not sparse:
            self.out.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(torch.tanh(self.words(ids).mean(1)))


class Lists(nn.Module):
    """Parameters in lists and dicts, one of no axes, buffers that are None and integers."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(8, 8) / 3) for _ in range(2)])
        self.by_name = nn.ParameterDict({"out": nn.Parameter(torch.randn(8, 3) / 3)})
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("nothing", None)
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        for weight in self.weights:
            x = torch.tanh(x @ weight)
        return self.scale * (x @ self.by_name["out"]) + self.frozen


class Frozen(OrderedDict):  # type: ignore[type-arg]
    """As diffusers' dictionary of a configuration."""

    def update(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("cannot be written")


class Settings:
    def __init__(self) -> None:
        self.width, self.nested = 8, {"layers": [1, 2]}


class Stateful(nn.Module):
    """Its forward pass writes whatever a model can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()
        self._internal_dict = Frozen({"width": 8})
        self.config, self._cache, self.history, self.calls = Settings(), {"old": 1}, [1.0], 0
        self.mean, self.centers = torch.zeros(8), torch.ones(3)
        self.generator = torch.Generator().manual_seed(1)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.history.append(float(x.detach().mean()))
        self._cache["new"] = x
        self.config.width, self.config.last = 9, x
        self.config.nested["layers"].append(self.calls)
        self.mean.mul_(0.9).add_(x.detach().mean(0))
        self.centers.data += 1
        self.noise = torch.randn(3, generator=self.generator)
        out = self.net(x)
        self.last = out  # with its graph
        if not hasattr(self, "made"):
            self.made = self.net[0].weight.detach().sum() * 0 + 1
        return out * self.made


class Sparse(nn.Module):
    """Multiplies by sparse matrices, a buffer and an attribute, whose values its forward pass changes."""

    def __init__(self, convert: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.faded = mlp(), convert(torch.eye(6))
        self.register_buffer("adjacency", convert(torch.eye(6) + torch.eye(6).roll(1, 0)))
        self.nowhere = torch.empty(3, device="meta")

    def forward(self, x: Tensor) -> Tensor:
        self.faded.mul_(0.9)
        return torch.sparse.mm(self.faded, torch.sparse.mm(self.adjacency, self.net(x)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(2, 4, batch_first=True, bidirectional=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x.view(-1, 4, 2))[0][:, -1])


class Saving(nn.Module):
    """Its second half is computed again in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.one, self.two, self.reentrant = nn.Linear(8, 8), mlp(nn.Dropout(0.5)), reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.two, self.one(x), use_reentrant=self.reentrant)


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.out = nn.Parameter(torch.randn(5, dtype=torch.complex64)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.fft.irfft(torch.fft.rfft(x) * self.weight, n=8))


class Wrapping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


class Detector(nn.Module):
    """Its loss is there in train mode alone."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8, 3)

    def forward(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        found = self.net(x)
        return {"loss": cross_entropy(found, y)} if self.training else {"boxes": found}


class OneArgument(nn.Module):
    """Takes one thing that holds tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, given: Any) -> Tensor:
        return self.net(given["x"] if isinstance(given, dict) else given[0])


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(8, 4), nn.Linear(4, 3)

    def forward(self, given: Any) -> Tensor:
        return self.out(self.rnn(given)[1][-1])


class Mapped(nn.Module):
    """Takes samples one by one, and if asked for the derivative of what it makes of each."""

    def __init__(self, derivative: bool = False) -> None:
        super().__init__()
        self.net, self.derivative = mlp(), derivative

    def forward(self, x: Tensor) -> Tensor:
        if not self.derivative:
            return torch.func.vmap(self.net)(x)
        return torch.func.vmap(torch.func.grad(lambda row: self.net(row).square().sum()))(x)


class OwnNames(nn.Module):
    """A wrapper that passes as what it wraps."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def named_parameters(self, *given: Any, **named: Any) -> Any:
        return self.inner.named_parameters(*given, **named)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Empty(nn.Module):
    """A parameter without elements, as of a layer that was cut to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing, self.net = nn.Parameter(torch.zeros(0, 3)), mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class KeepsAFunction(nn.Module):
    """Its copies call the original, as Accelerate's wrapped `forward` does where it is made by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()
        self.forward = lambda x: self.net(x)


class Slotted(nn.Module):
    """An attribute that is in no dictionary: copies are without it."""

    __slots__ = ("factor",)

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()
        self.factor = [2.0]

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * self.factor[0]


def old_norms() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(
            nn.utils.weight_norm(nn.Linear(8, 8)), nn.Tanh(), nn.utils.spectral_norm(nn.Linear(8, 3))
        )


def pruned() -> nn.Module:
    model = mlp()
    prune.l1_unstructured(model[0], "weight", amount=0.3)
    return model


def parametrised() -> nn.Module:
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(8, 8)),
        nn.Tanh(),
        parametrizations.orthogonal(nn.Linear(8, 8)),
        parametrizations.spectral_norm(nn.Linear(8, 3)),
    )


def hooked() -> nn.Module:
    model = mlp(nn.BatchNorm1d(8))
    model[0].register_forward_hook(lambda module, given, output: output * 1.5)
    model[0].register_forward_pre_hook(lambda module, given: (given[0] + 0.1,))
    model[1].register_full_backward_hook(lambda *_: None)
    model[0].weight.register_hook(lambda gradient: 2 * gradient)
    model[0].bias.register_post_accumulate_grad_hook(lambda _: None)
    return model


def mixed_modes() -> nn.Module:
    model = mlp(nn.BatchNorm1d(8, momentum=None), nn.Dropout(0.5), nn.BatchNorm1d(8))
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[5].weight.grad = torch.full_like(model[5].weight, 0.5)
    return model


def penalised() -> Case:
    """A loss that reads the weights of the model by another way than the model's output."""
    held: list[nn.Module] = []

    def make() -> nn.Module:
        held[:] = [mlp()]
        return held[0]

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(output, y) + 0.1 * sum(p.square().sum() for p in held[0].parameters())

    return Case(make, (X, Y), loss)


def with_own_weights() -> Case:
    """A loss that is a module and has a parameter."""

    class Centers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centers = nn.Parameter(torch.zeros(3, 3))

        def forward(self, output: Tensor, y: Tensor) -> Tensor:
            return mse_loss(output, self.centers[y] + 1)

    return Case(mlp, (X, Y), Centers())


@dataclass
class Output:
    logits: Tensor
    others: list[Tensor]


class ReturnsADataclass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: Tensor) -> Output:
        y = self.net(x)
        return Output(y, [y.detach()])


def detector_loss(model: nn.Module, batch: Any) -> Tensor:
    return model.train()(*batch)["loss"]


Pair = namedtuple("Pair", "one other")
SCRIPTED = dict.fromkeys(
    ("smoothness", "smoothness of a step", "curvature", "landscape", "noise", "check", "lr range"),
    "compiled by torch.jit",
)
COMPLEX = dict.fromkeys(
    ("smoothness", "smoothness of a step", "curvature", "landscape", "noise"), "weight is complex: only real"
)
REENTRANT = dict.fromkeys(
    ("smoothness", "smoothness of a step", "curvature", "noise"),
    "its backward pass fails: .*use_reentrant=False",
)
TRAIN_MODE = dict.fromkeys(
    ("smoothness", "smoothness of a step", "curvature", "landscape", "noise"), "in train mode alone"
)
UNCOPIED = dict.fromkeys(("landscape", "check", "lr range"), "Sparse cannot be copied: .*SparseCsrTensorImpl")
ORIGINAL_S = dict.fromkeys(
    ("landscape", "check", "lr range"), "its copy computes with .*net.0.weight.* of the original"
)
SLOTTED = dict.fromkeys(("landscape", "check", "lr range"), "the copy that is .* fails: AttributeError")
PACKED = nn.utils.rnn.pack_sequence([X[:4], X[:3], X[:3], X[:2], X[:1], X[:1]])

CASES: dict[str, Case] = {
    "a module under two names": Case(TwoNames, (X, Y), cross_entropy),
    "tied weights": Case(Tied, (TOKENS, Y), cross_entropy),
    "sparse gradients": Case(lambda: Tied(sparse=True), (TOKENS, Y), cross_entropy),
    "parameter lists, one without axes": Case(Lists, (X, Y), cross_entropy),
    "writes what it holds": Case(Stateful, (X, Y), cross_entropy),
    "sparse matrices": Case(lambda: Sparse(Tensor.to_sparse), (X, Y), cross_entropy),
    "compressed matrices": Case(lambda: Sparse(Tensor.to_sparse_csr), (X, Y), cross_entropy, UNCOPIED),
    "recurrent": Case(Recurrent, (X, Y), cross_entropy),
    "old weight norms": Case(old_norms, (X, Y), cross_entropy),
    "pruned": Case(pruned, (X, Y), cross_entropy),
    "parametrised": Case(parametrised, (X, Y), cross_entropy),
    "hooks of its own": Case(hooked, (X, Y), cross_entropy),
    "modes and gradients mixed": Case(mixed_modes, (X, Y), cross_entropy),
    "checkpoints": Case(lambda: Saving(False), (X, Y), cross_entropy),
    "reentrant checkpoints": Case(lambda: Saving(True), (X, Y), cross_entropy, REENTRANT),
    "complex": Case(Complex, (X, Y), cross_entropy, COMPLEX),
    "an attribute called module": Case(Wrapping, (X, Y), cross_entropy),
    "bfloat16": Case(lambda: mlp().bfloat16(), (X.bfloat16(), Y), cross_entropy),
    "data parallel": Case(lambda: nn.DataParallel(mlp()), (X, Y), cross_entropy),
    "scripted": Case(lambda: torch.jit.script(mlp()), (X, Y), cross_entropy, SCRIPTED, trained=False),
    "a penalty of the weights": penalised(),
    "a loss with weights": with_own_weights(),
    "a loss of train mode": Case(Detector, ((X, Y), Y), lambda output, _: output["loss"], TRAIN_MODE),
    "a loss that calls the model": Case(Detector, (X, Y), detector_loss),
    "a dict as the argument": Case(OneArgument, ({"x": X}, Y), cross_entropy),
    "a list as the argument": Case(OneArgument, ([X, X], Y), cross_entropy),
    "a named tuple as the argument": Case(OneArgument, (Pair(X, X), Y), cross_entropy),
    "a packed sequence": Case(Packed, (PACKED, Y), cross_entropy),
    "torch.func within": Case(Mapped, (X, Y), cross_entropy),
    "a derivative within": Case(lambda: Mapped(derivative=True), (X, X), mse_loss),
    "names of its own": Case(OwnNames, (X, Y), cross_entropy),
    "a parameter of no elements": Case(Empty, (X, Y), cross_entropy),
    "a function that is kept": Case(KeepsAFunction, (X, Y), cross_entropy, ORIGINAL_S),
    "a dataclass as the output": Case(ReturnsADataclass, (X, Y), lambda out, y: cross_entropy(out.logits, y)),
    "slots": Case(Slotted, (X, Y), cross_entropy, SLOTTED),
}
