"""Embedded data set of 1,797 handwritten digits, for first runs and tests without a download.

`DIGITS.md` has their origin and the changes made.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from gradscape.data.images import ImageSet, Int64Array, Uint8Array
from gradscape.errors import DataError

DIGITS_FILE = Path(__file__).with_name("digits.npz")
DIGITS_SHA256 = "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"
POOL = 1497  # the last 300 are the test set: about the proportion of CIFAR's 50,000 / 10,000


def load_digits(path: Path = DIGITS_FILE) -> ImageSet:
    """Return the digits as an `ImageSet`: 1,497 training and 300 test images, uint8 (N, 16, 16, 3).

    Each pixel of the 8×8 originals is repeated 2×2, its value 0 … 16 scaled to 0 … 255, in three equal
    channels.

    Args:
        path: Path of the embedded file.

    Raises:
        DataError: If the file is missing, or another than that of this release.

    Example:
        >>> load_digits()
        ImageSet(digits: 1,497 training and 300 test images of 16×16, 10 classes)
    """
    images, labels = _read(path)
    images.setflags(write=False)
    labels.setflags(write=False)
    return ImageSet(
        name="digits",
        train_images=images[:POOL],
        train_labels=labels[:POOL],
        test_images=images[POOL:],
        test_labels=labels[POOL:],
        classes=tuple("0123456789"),
        checksums={path.name: f"sha256:{DIGITS_SHA256}"},
    )


def _read(path: Path) -> tuple[Uint8Array, Int64Array]:
    """Read the verified file: enlarged images, and labels."""
    cure = "install gradscape again: pip install --force-reinstall --no-deps gradscape"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the embedded digits {path} ({error.strerror}); {cure}") from error
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != DIGITS_SHA256:
        raise DataError(
            f"the embedded digits {path} are damaged: expected sha256 {DIGITS_SHA256}; got {checksum}; {cure}"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return _enlarge(arrays["images"]), arrays["labels"].astype(np.int64)


def _enlarge(images: Uint8Array) -> Uint8Array:
    """Convert (N, 8, 8) of 0 … 16 to (N, 16, 16, 3) of 0 … 255."""
    scaled = np.rint(images * (255 / 16)).astype(np.uint8)
    doubled = scaled.repeat(2, axis=1).repeat(2, axis=2)
    return np.repeat(doubled[..., None], 3, axis=-1)
