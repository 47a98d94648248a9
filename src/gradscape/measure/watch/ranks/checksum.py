"""Checksum of a tensor's bits, computed on its device.

The bits are read as whole numbers x_i, and the checksum is Σ w_i x_i mod 2⁶⁴ with fixed pseudo-random odd
weights: multilinear hashing (Carter & Wegman, 1979; Lemire & Kaser, 2014). A difference in a single element
always shows, since an odd weight times a nonzero number below 2⁶⁴ is not 0 mod 2⁶⁴. For differences d_i in
several elements, chosen without knowledge of the weights, it stays unseen with a probability of at most
2^(j−63), where 2^j is the largest power of 2 that divides all d_i: about 10⁻¹⁹ for rounding errors, and 2⁻³²
where the signs of several float32 are all that differs.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**16  # elements with weights of their own: 512 kB stay in a processor's cache
# Blocks in one operation. On a processor several take memory that is fresh each time, at 7 times the cost; an
# accelerator has the fewer operations the better, and 64 take 32 MB.
BLOCKS = {"cpu": 1}
MOST_BLOCKS = 64
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def checksum(tensor: Tensor) -> Tensor:
    """Return the checksum of a tensor's bits: an int64 tensor of one number, on the tensor's device.

    Args:
        tensor: Dense tensor of any shape, strides and dtype; equal values have equal checksums whatever the
            strides, and 0 and −0 have different ones.
    """
    bits = _integers(tensor)
    weights, multipliers = _weights(tensor.device)
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    whole = len(bits) // BLOCK
    most = BLOCKS.get(tensor.device.type, MOST_BLOCKS)
    for first in range(0, whole, most):
        number = min(most, whole - first)
        part = bits[first * BLOCK : (first + number) * BLOCK].view(number, BLOCK)
        total += ((part * weights).sum(1) * multipliers[first : first + number]).sum()
    if len(rest := bits[whole * BLOCK :]):
        total += (rest * weights[: len(rest)]).sum() * multipliers[whole]
    return total


def _integers(tensor: Tensor) -> Tensor:
    """Return the bits as whole numbers, one-dimensional and without a copy where it is contiguous."""
    held = torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()
    flat = held.resolve_neg().reshape(-1)
    return flat.view(INTEGERS[flat.element_size()])


@cache
def _weights(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the weights within a block and the multipliers of blocks; they use up no random numbers."""
    drawn = np.random.PCG64(25).random_raw(2 * BLOCK).astype(np.uint64) | np.uint64(1)
    numbers = torch.from_numpy(drawn.view(np.int64)).to(device)
    return numbers[:BLOCK], numbers[BLOCK:]
