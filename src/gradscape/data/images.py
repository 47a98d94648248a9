"""Images in memory, their split, and the channel statistics that normalize them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscape.errors import ConfigError

Uint8Array = NDArray[np.uint8]
Int64Array = NDArray[np.int64]
Triple = tuple[float, float, float]

# Mean and standard deviation per channel (red, green, blue) of the training pool, pixels in 0…1.
# "cifar10" and "cifar100" are the values in common use; the course code used "cifar10" for both.
# The standard deviations of cifar10 are means over images of each one's own, those of cifar100 are over all
# pixels.
STATISTICS: dict[str, tuple[Triple, Triple]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "digits": ((0.3052, 0.3052, 0.3052), (0.3749, 0.3749, 0.3749)),
}


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labeled set of images, complete and in published order.

    The arrays are read-only; those of a cached set are memory-mapped: processes on one machine share one
    copy.

    Attributes:
        name: Name: `digits`, `cifar10` or `cifar100`.
        train_images: Whole pool from which validation is split, uint8 (N, H, W, 3).
        train_labels: Labels 0 … len(classes) − 1, int64 (N,).
        test_images, test_labels: Test set likewise, (M, H, W, 3) and (M,).
        classes: Class names, indexed by label.
        checksums: Map source file → verified `md5:…` or `sha256:…`; where none is published the text names
            the check made instead.
    """

    name: str
    train_images: Uint8Array
    train_labels: Int64Array
    test_images: Uint8Array
    test_labels: Int64Array
    classes: tuple[str, ...]
    checksums: dict[str, str]

    @property
    def image_size(self) -> int:
        """Height and width of every image, in pixels."""
        return int(self.train_images.shape[1])

    def averaged(self, size: int | None) -> ImageSet:
        """Return the set with each image averaged over equal squares, rounded to whole numbers.

        Args:
            size: Height and width of the result, a divisor of theirs; None for the images as they are.
        """
        if size is None or size == self.image_size:
            return self
        train, test = (_averaged(each, size) for each in (self.train_images, self.test_images))
        return replace(self, train_images=train, test_images=test)

    def __repr__(self) -> str:
        side = self.image_size
        return (
            f"ImageSet({self.name}: {len(self.train_labels):,} training and "
            f"{len(self.test_labels):,} test images of {side}×{side}, {len(self.classes)} classes)"
        )


def _averaged(images: Uint8Array, size: int) -> Uint8Array:
    """Average (N, H, W, 3) over squares to (N, size, size, 3); halves are rounded to even."""
    count, edge, _, channels = images.shape
    width = edge // size
    squares = images.reshape(count, size, width, size, width, channels)
    sums = squares.sum(axis=(2, 4), dtype=np.uint32)
    averaged: Uint8Array = np.rint(sums / np.float32(width * width)).astype(np.uint8)
    averaged.setflags(write=False)
    return averaged


@dataclass(frozen=True, eq=False)
class Split:
    """Split of a pool into training and validation images.

    Attributes:
        train, valid: Sorted int64 indices into the pool; disjoint, together the whole pool.
        method: Description of the draw, for the run's record.
    """

    train: Int64Array
    valid: Int64Array
    method: str


def split(labels: NDArray[Any], valid: int, seed: int, stratified: bool = False) -> Split:
    """Set `valid` images of the pool aside for validation.

    Unstratified, the indices are `RandomState(seed).choice(N, valid, replace=False)`, as in the
    study's course code. Stratified, every class contributes its proportion, to within one image.

    Args:
        labels: Labels of the pool, integers (N,).
        valid: Number of validation images, 1 … N − 1.
        seed: Seed of the draw, 0 … 2³² − 1.
        stratified: Whether to preserve the classes' proportions.

    Raises:
        ConfigError: If `valid` or `seed` is out of range.

    Example:
        >>> split(np.zeros(10, dtype=np.int64), valid=3, seed=0).valid
        array([2, 4, 8])
    """
    count = len(labels)
    if not 1 <= valid < count:
        raise ConfigError(f"valid: expected 1 … {count - 1:,} of the {count:,} images; got {valid}")
    if not 0 <= seed < 2**32:
        raise ConfigError(f"split seed: expected 0 … {2**32 - 1}; got {seed}")
    rng = np.random.RandomState(seed)
    drawn = _stratified(labels, valid, rng) if stratified else rng.choice(count, valid, False)
    validates = np.zeros(count, dtype=bool)
    validates[drawn] = True
    how = "stratified by largest remainder" if stratified else "unstratified"
    return Split(
        train=np.flatnonzero(~validates).astype(np.int64),
        valid=np.flatnonzero(validates).astype(np.int64),
        method=f"numpy RandomState({seed}).choice, {how}",
    )


def _stratified(labels: NDArray[Any], valid: int, rng: np.random.RandomState) -> Int64Array:
    """Draw each class's proportion of `valid`, rounded by largest remainder."""
    classes, sizes = np.unique(labels, return_counts=True)
    # Integers, not floats: ties between equal classes must not depend on rounding.
    shares, remainders = np.divmod(sizes * valid, len(labels))
    shares[np.argsort(-remainders, kind="stable")[: valid - shares.sum()]] += 1
    drawn = [
        rng.choice(np.flatnonzero(labels == label), share, replace=False)
        for label, share in zip(classes, shares, strict=True)
    ]
    return np.concatenate(drawn)
