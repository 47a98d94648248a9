"""Layers of Keras that PyTorch writes otherwise: recurrent ones, masks, global pooling."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),  # Keras'; PyTorch's is x/6 + 0.5
}


class Embedded(nn.Module):
    """Embedding of whole numbers, uniform within ±0.05 as Keras begins."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.embedding(x)
        return out


class Steps(nn.Module):
    """(N, channels, steps) as (N, steps, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Global(nn.Module):
    """Average or maximum over all positions, (N, channels, …) to (N, channels)."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        return flat.mean(2) if self.how == "mean" else flat.amax(2)


class Recurrent(nn.Module):
    """PyTorch's LSTM or GRU on (N, steps, inputs): its last output, or all."""

    def __init__(self, kind: str, inputs: int, size: int, sequence: bool) -> None:
        super().__init__()
        of = {"LSTM": nn.LSTM, "GRU": nn.GRU}[kind]
        self.inner, self.sequence = of(inputs, size, batch_first=True), sequence
        start(self.inner)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)[0]
        return out if self.sequence else out[:, -1]


class MaskedLSTM(nn.Module):
    """LSTM whose output is that of the last step before the padding, on (N, steps, inputs)."""

    def __init__(self, inputs: int, size: int, mask: float) -> None:
        super().__init__()
        self.inner, self.mask = nn.LSTM(inputs, size, batch_first=True), mask
        start(self.inner)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)[0]
        last = (x != self.mask).any(2).sum(1).sub(1).clamp(min=0)
        return out[torch.arange(len(x)), last]


class Plain(nn.Module):
    """A recurrent layer written out, step by step, with activations of choice."""

    gates: int

    def __init__(self, inputs: int, size: int, sequence: bool, activation: str, gate: str) -> None:
        super().__init__()
        self.size, self.sequence = size, sequence
        self.activation, self.gate = ACTIVATIONS[activation], ACTIVATIONS[gate]
        self.inputs = nn.Linear(inputs, self.gates * size)
        self.states = nn.Linear(size, self.gates * size, bias=False)
        nn.init.xavier_uniform_(self.inputs.weight)
        nn.init.zeros_(self.inputs.bias)
        nn.init.orthogonal_(self.states.weight)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), self.size)
        memory, outs = state, []
        for mapped in self.inputs(x).unbind(1):
            state, memory = self.advance(mapped, state, memory)
            outs.append(state)
        return torch.stack(outs, 1) if self.sequence else state

    def advance(self, mapped: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class PlainLSTM(Plain):
    """LSTM (Hochreiter & Schmidhuber 1997), forget bias 1."""

    gates = 4

    def __init__(self, inputs: int, size: int, sequence: bool, activation: str, gate: str) -> None:
        super().__init__(inputs, size, sequence, activation, gate)
        nn.init.ones_(self.inputs.bias[size : 2 * size])

    def advance(self, mapped: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        let_in, keep, candidate, let_out = (mapped + self.states(state)).chunk(4, 1)
        memory = self.gate(keep) * memory + self.gate(let_in) * self.activation(candidate)
        return self.gate(let_out) * self.activation(memory), memory


class PlainGRU(Plain):
    """GRU (Cho et al. 2014), the reset gate after the product with the state."""

    gates = 3

    def advance(self, mapped: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        reset, update, candidate = mapped.chunk(3, 1)
        old_reset, old_update, old = self.states(state).chunk(3, 1)
        keep = self.gate(update + old_update)
        new = self.activation(candidate + self.gate(reset + old_reset) * old)
        return keep * state + (1 - keep) * new, memory


def start(inner: nn.LSTM | nn.GRU) -> None:
    """Give Keras' start to a layer of PyTorch: Glorot inputs, orthogonal states, forget bias 1."""
    for weight in (inner.weight_ih_l0, inner.weight_hh_l0):
        (nn.init.xavier_uniform_ if weight is inner.weight_ih_l0 else nn.init.orthogonal_)(weight)
    nn.init.zeros_(inner.bias_ih_l0)
    nn.init.zeros_(inner.bias_hh_l0)
    if isinstance(inner, nn.LSTM):
        nn.init.ones_(inner.bias_ih_l0[inner.hidden_size : 2 * inner.hidden_size])
