"""BatchNorm and LeakyReLU as one operation, on GPUs where that is right and faster.

Like a precision, it is tried before it is believed: once for a study, on tensors of the network's own kind.
On CPUs it is not: their libraries are not reached by Triton, and eager operations are the fastest there are.
"""

from __future__ import annotations

import time
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from gradscape.errors import first_line
from gradscape.nets.blocks import ConvBlock, EntryBlock

PROBE = (100, 32, 32, 32)  # VGG38's first layers at the paper's batch size, where most memory is moved
SLOPE = 0.01
REPEATS, EACH = 5, 20
WORTH = 1.05  # times as fast, or it is left alone
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.02}  # of the largest value


def fuse(model: nn.Module) -> nn.Module:
    """Fuse every LeakyReLU with the BatchNorm2d before it; parameters and their names stay.

    Args:
        model: of `gradscape.nets`; blocks with another norm or activation are left as they are, and so
            are residual ones, whose second norm is followed by a sum.
    """
    from gradscape.nets.fused_norm import BatchNormLeakyReLU

    for block in model.modules():
        if not isinstance(block, EntryBlock | ConvBlock) or not isinstance(block.activation, nn.LeakyReLU):
            continue
        norms = {name: norm for name, norm in block.named_children() if name.startswith("norm")}
        if not all(isinstance(norm, nn.BatchNorm2d) for norm in norms.values()):
            continue
        for name, norm in norms.items():
            assert isinstance(norm, nn.BatchNorm2d)
            setattr(block, name, BatchNormLeakyReLU(norm, block.activation.negative_slope))
        block.activation = nn.Identity()
    return model


def fusing_pays(device: torch.device, precision: str) -> tuple[bool, str]:
    """Whether to fuse on this device, and what to say of it.

    Args:
        device: where the run computes.
        precision: as `settle` decided: of the activations.
    """
    if device.type != "cuda":
        return False, ""
    if find_spec("triton") is None:
        return False, "BatchNorm and LeakyReLU are not fused: Triton is not installed"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    try:
        return verdict(*measure(device, dtype), TOLERANCE[dtype])
    except Exception as error:  # of any kind: of the compiler, the driver, a version that does not match
        return False, f"BatchNorm and LeakyReLU are not fused: {first_line(error)}"


def verdict(eager: float, fused: float, error: float, tolerance: float) -> tuple[bool, str]:
    """From seconds of both and their largest relative difference."""
    if not error <= tolerance:  # NaN too
        return False, f"BatchNorm and LeakyReLU are not fused: wrong here (off by {error:.1%} of the largest)"
    how_much = f"{eager / fused:.2f} times as fast"
    if eager < WORTH * fused:
        return False, f"BatchNorm and LeakyReLU are not fused: {how_much} here"
    return True, f"BatchNorm and LeakyReLU are fused: {how_much} here"


def measure(device: torch.device, dtype: torch.dtype) -> tuple[float, float, float]:
    """Seconds forward and backward, eager and fused, and their largest relative difference."""
    from gradscape.nets.fused_norm import BatchNormLeakyReLU

    generator = torch.Generator().manual_seed(0)
    x, cotangent = (
        torch.randn(PROBE, generator=generator)
        .to(device, dtype)
        .contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    )
    cotangent *= away_from_the_kink(batch_norm(x, None, None, training=True))
    norm, twin = (nn.BatchNorm2d(PROBE[1], device=device) for _ in range(2))
    eager = nn.Sequential(norm, nn.LeakyReLU(SLOPE, inplace=True))
    fused = BatchNormLeakyReLU(twin, SLOPE)
    error = difference(both_ways(fused, x, cotangent), both_ways(eager, x, cotangent))
    error = max(error, difference(list(fused.buffers()), list(norm.buffers())))
    graphs = [_captured(layer, x, cotangent) for layer in (eager, fused)]
    rounds = [[_seconds(graph) for graph in graphs] for _ in range(REPEATS)]
    return min(one for one, _ in rounds), min(other for _, other in rounds), error


def away_from_the_kink(out: Tensor) -> Tensor:
    """Where an output of LeakyReLU is not so near 0 that a rounding decides on which side the input was."""
    return out.abs() > 1e-3


def both_ways(layer: nn.Module, x: Tensor, cotangent: Tensor) -> list[Tensor]:
    """Output, and the gradients of the input and the parameters."""
    x = x.detach().requires_grad_()
    out = layer(x)
    return [out.detach(), *torch.autograd.grad(out, (x, *layer.parameters()), cotangent)]


def difference(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest, of each relative to its largest value."""
    pairs = zip(found, wanted, strict=True)
    return max(((a.double() - b.double()).abs().max() / b.double().abs().max()).item() for a, b in pairs)


def _captured(layer: nn.Module, x: Tensor, cotangent: Tensor) -> torch.cuda.CUDAGraph:
    """Several passes as one graph, as in training: launched one by one, only the launches would be timed."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(EACH):
            both_ways(layer, x, cotangent)
    return graph


def _seconds(graph: torch.cuda.CUDAGraph) -> float:
    """Of one pass."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    graph.replay()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / EACH
