"""BatchNorm and LeakyReLU as one operation, on GPUs where that is correct and faster.

It is tested once per study on tensors of the network's kind before it is used. CPUs never fuse: Triton does
not target them, and their eager operations are the fastest available.
"""

from __future__ import annotations

import time
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from gradscape.errors import first_line
from gradscape.nets.blocks import ConvBlock, EntryBlock

PROBE = (100, 32, 32, 32)  # first layers of VGG38 at the paper's batch size, which move most memory
SLOPE = 0.01
REPEATS, EACH = 5, 20
WORTH = 1.05  # minimal speed-up to fuse
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.02}  # relative to the largest value


def fuse(model: nn.Module) -> nn.Module:
    """Fuse every LeakyReLU with the BatchNorm2d before it, in place; parameters and names are unchanged.

    Args:
        model: Network of `gradscape.nets`. Blocks with another norm or activation are unchanged, and residual
            blocks too, where a sum follows the second norm.

    Returns:
        The model.
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


def can_fuse(device: torch.device) -> bool:
    """Check that fused layers run on a device; a run that a GPU has begun may go on on a CPU.

    Args:
        device: Device of the run.
    """
    return device.type == "cuda"


def fusing_pays(device: torch.device, precision: str) -> tuple[bool, str]:
    """Decide whether to fuse on a device, and return the decision and its reason.

    Args:
        device: Device of the run.
        precision: Precision of the activations, from `settle`.
    """
    if not can_fuse(device):
        return False, ""
    if find_spec("triton") is None:
        return False, "BatchNorm and LeakyReLU are not fused: Triton is not installed"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    try:
        return verdict(*measure(device, dtype), TOLERANCE[dtype])
    except Exception as error:  # any type: of the compiler, the driver, mismatched versions
        return False, f"BatchNorm and LeakyReLU are not fused: {first_line(error)}"


def verdict(eager: float, fused: float, error: float, tolerance: float) -> tuple[bool, str]:
    """Decide whether to fuse, and return the decision and its reason.

    Args:
        eager, fused: Seconds of both variants.
        error: Largest relative difference of their results.
        tolerance: Largest error allowed.
    """
    if not error <= tolerance:  # NaN too
        return False, f"BatchNorm and LeakyReLU are not fused: wrong here (off by {error:.1%} of the largest)"
    speedup = f"{eager / fused:.2f} times as fast"
    if eager < WORTH * fused:
        return False, f"BatchNorm and LeakyReLU are not fused: {speedup} here"
    return True, f"BatchNorm and LeakyReLU are fused: {speedup} here"


def measure(device: torch.device, dtype: torch.dtype) -> tuple[float, float, float]:
    """Return the seconds forward and backward, eager and fused, and their largest relative difference.

    Args:
        device: CUDA device to measure on.
        dtype: dtype of the activations.
    """
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
    """Return a mask of outputs so far from 0 that rounding cannot change the sign of the input.

    Args:
        out: Outputs of LeakyReLU, of any shape.
    """
    return out.abs() > 1e-3


def both_ways(layer: nn.Module, x: Tensor, cotangent: Tensor) -> list[Tensor]:
    """Return the output and the gradients of the input and the parameters.

    Args:
        layer: Layer to run.
        x: Input of the layer.
        cotangent: Gradient of the output.
    """
    x = x.detach().requires_grad_()
    out = layer(x)
    return [out.detach(), *torch.autograd.grad(out, (x, *layer.parameters()), cotangent)]


def difference(actual: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest difference between tensors, each relative to its largest expected value.

    Args:
        actual, expected: Tensors of equal shapes.
    """
    pairs = zip(actual, expected, strict=True)
    return max(((a.double() - b.double()).abs().max() / b.double().abs().max()).item() for a, b in pairs)


def _captured(layer: nn.Module, x: Tensor, cotangent: Tensor) -> torch.cuda.CUDAGraph:
    """Capture several passes as one graph, as in training: single launches would dominate the time."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(EACH):
            both_ways(layer, x, cotangent)
    return graph


def _seconds(graph: torch.cuda.CUDAGraph) -> float:
    """Return the seconds of one pass."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    graph.replay()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / EACH
