"""Networks in the notation of a Keras program's layers, as PyTorch modules with Keras' initialization.

`"D128:relu Do0.2 D1:sigmoid"` is a dense layer of 128 units with ReLU, dropout of 0.2, and a dense unit with
a sigmoid. Words of the notation: D (dense), Conv1D … Conv3D, MP (max-pooling), GAP and GMP (global average
and maximum over positions), BN, Do, Flat, Emb, LSTM, GRU, Steps (channels first to steps first), relu and
others alone; after them, in this order:

- a size: units, filters, rate, slope, window of pooling (2 if not given), or vocabulary and width `100x24`
- `k5` a kernel of 5 (3 if not given), `s2` a stride, `same` padding that keeps the size, `seq` all outputs of
  a recurrent layer, not its last alone
- `:relu` an activation, a module of its own but in a recurrent layer; `:relu/hard_sigmoid` with its gates'
- `ᵘ` uniform initialization within ±0.05, `ᵘ0.2` within ±0.2; `ⁿ` normal of deviation 0.05, `ⁿ1` of 1
- `[l2=0.01]`, `[l1=0.01]` a penalty on the kernel, `~` no bias, `!` frozen

Images and sequences are channels first, as convolutions take them in PyTorch; a dense layer on a sequence
acts on its last axis, as in Keras.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from public_failures.layers import Embedded, Global, MaskedLSTM, PlainGRU, PlainLSTM, Recurrent, Steps

WORD = re.compile(
    r"(?P<kind>Conv[123]D|LSTM|GRU|MaskedLSTM|Emb|MP|GAP|GMP|BN|Do|Flat|Steps|LeakyReLU|D|[a-z]+)"
    r"(?P<size>-?[\d.]*)(x(?P<width>\d+))?(k(?P<kernel>\d+))?(s(?P<stride>\d+))?(?P<how>same|seq)?"
    r"(:(?P<activation>[a-z]+)(/(?P<gates>[a-z_]+))?)?((?P<init>[ᵘⁿ])(?P<scale>[\d.]*))?"
    r"(\[(?P<penalty>l[12])=(?P<strength>[\d.e-]+)\])?(?P<no_bias>~)?(?P<frozen>!)?"
)
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softmax": lambda: nn.Softmax(dim=-1),
    "linear": nn.Identity,
}
CONVOLUTIONS = {"Conv1D": nn.Conv1d, "Conv2D": nn.Conv2d, "Conv3D": nn.Conv3d}
POOLS = {2: nn.MaxPool1d, 3: nn.MaxPool2d, 4: nn.MaxPool3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}
NAMES = {
    "D": "dense", "Do": "dropout", "MP": "pool", "BN": "norm", "Flat": "flatten", "Emb": "embedding",
    "GAP": "average", "GMP": "maximum", "LeakyReLU": "leaky_relu", "MaskedLSTM": "lstm",
}  # fmt: skip
KERAS_NORM = {"eps": 1e-3, "momentum": 0.01}
Shape = tuple[int, ...]
Words = dict[str, str]


@dataclass
class Network:
    """A network, and the penalties on its kernels.

    Attributes:
        model: Its layers, named by kind and number: `dense1`, `relu1`, `dense2`.
        l1, l2: Strength of each penalized kernel's penalty, by the name of its parameter.
    """

    model: nn.Sequential
    l1: dict[str, float] = field(default_factory=dict)
    l2: dict[str, float] = field(default_factory=dict)


def network(notation: str, shape: Shape, dtype: torch.dtype = torch.float32) -> Network:
    """Build the network of a notation, with weights from the global generator.

    Args:
        notation: Layers, as the module's text describes them, with spaces between.
        shape: Shape of a sample, without the batch.
        dtype: Type of the inputs: integers for an embedding.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    built = Network(nn.Sequential())
    sample = torch.zeros(2, *shape, dtype=dtype)
    for text in notation.split():
        word = parsed(text)
        for kind, layer in modules(word, tuple(sample.shape[1:])):
            name = numbered(kind, layers)
            layers[name] = layer
            with torch.no_grad():
                sample = layer.eval()(sample)
            layer.train()
        if word["penalty"]:
            kernel = f"{next(name for name in reversed(layers) if hasattr(layers[name], 'weight'))}.weight"
            (built.l1 if word["penalty"] == "l1" else built.l2)[kernel] = float(word["strength"])
    built.model = nn.Sequential(layers)
    return built


def parsed(text: str) -> Words:
    match = WORD.fullmatch(text)
    if match is None:
        raise ValueError(f"layer: expected a word such as 'D128:relu' or 'Conv2D16k5same:relu'; got {text!r}")
    return {name: value or "" for name, value in match.groupdict().items()}


def numbered(kind: str, layers: OrderedDict[str, nn.Module]) -> str:
    before = sum(re.fullmatch(rf"{kind}\d+", name) is not None for name in layers)
    return f"{kind}{before + 1}"


def modules(word: Words, shape: Shape) -> list[tuple[str, nn.Module]]:
    """Names of kinds and layers of one word: the layer, and its activation where that is a module."""
    kind = word["kind"]
    if kind in ACTIVATIONS:
        return [(kind, ACTIVATIONS[kind]())]
    layer = weighted(word, shape) or plain(word, shape)
    if word["init"]:
        initialize(layer, word)
    if word["frozen"]:
        layer.requires_grad_(False)
    name = NAMES.get(kind, "conv" if kind in CONVOLUTIONS else kind.lower())
    built = [(name, layer)]
    if word["activation"] and kind not in ("LSTM", "GRU"):
        built.append((word["activation"], ACTIVATIONS[word["activation"]]()))
    return built


def weighted(word: Words, shape: Shape) -> nn.Module | None:
    """Dense, convolutional, recurrent or embedding layer with Keras' initialization; None for any other."""
    kind = word["kind"]
    if kind == "D":
        return glorot(nn.Linear(shape[-1], int(word["size"]), bias=not word["no_bias"]))
    if kind in CONVOLUTIONS:
        kernel, stride = int(word["kernel"] or 3), int(word["stride"] or 1)
        padding: str | int = 0
        if word["how"] == "same":
            padding = "same" if stride == 1 else (kernel - 1) // 2
        return glorot(CONVOLUTIONS[kind](shape[0], int(word["size"]), kernel, stride, padding))
    if kind == "Emb":
        return Embedded(int(word["size"]), int(word["width"]))
    if kind == "MaskedLSTM":
        return MaskedLSTM(shape[-1], int(word["width"]), mask=float(word["size"]))
    if kind in ("LSTM", "GRU"):
        return recurrent(word, shape[-1])
    return None


def recurrent(word: Words, inputs: int) -> nn.Module:
    """PyTorch's own layer, or one written out where its activation is not tanh."""
    size, sequence = int(word["size"]), word["how"] == "seq"
    if not word["activation"]:
        return Recurrent(word["kind"], inputs, size, sequence)
    of = {"LSTM": PlainLSTM, "GRU": PlainGRU}[word["kind"]]
    return of(inputs, size, sequence, word["activation"], word["gates"] or "sigmoid")


def plain(word: Words, shape: Shape) -> nn.Module:
    """Layer without weights, or BatchNorm."""
    kind, size = word["kind"], word["size"]
    if kind == "MP":
        window, ceil = int(size or 2), word["how"] == "same"
        return POOLS[len(shape)](window, int(word["stride"] or window), ceil_mode=ceil)
    if kind == "BN":
        momentum = {"momentum": float(size)} if size else {}
        return NORMS[len(shape)](shape[0], **{**KERAS_NORM, **momentum})
    return {
        "Do": lambda: nn.Dropout(float(size)),
        "Flat": nn.Flatten,
        "Steps": Steps,
        "GAP": lambda: Global("mean"),
        "GMP": lambda: Global("max"),
        "LeakyReLU": lambda: nn.LeakyReLU(float(size or 0.3)),
    }[kind]()


def glorot(layer: nn.Module) -> nn.Module:
    """Glorot uniform kernel, zero bias: what Keras' layers begin with."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def initialize(layer: nn.Module, word: Words) -> None:
    scale = float(word["scale"] or 0.05)
    weight: Tensor = layer.weight
    if word["init"] == "ᵘ":
        nn.init.uniform_(weight, -scale, scale)
    else:
        nn.init.normal_(weight, std=scale)
