from __future__ import annotations

import hashlib

import numpy as np
import pytest

from gradscape.data import STATISTICS, load_images
from gradscape.data.digits import DIGITS_FILE, DIGITS_SHA256, load_digits
from gradscape.errors import DataError


def test_shapes_types_and_order():
    data = load_images("digits")
    assert data.train_images.shape == (1497, 16, 16, 3)
    assert data.test_images.shape == (300, 16, 16, 3)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert data.train_labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert data.image_size == 16
    assert data.classes == tuple("0123456789")
    assert repr(data) == "ImageSet(digits: 1,497 training and 300 test images of 16×16, 10 classes)"


def test_pixels_are_the_archives_doubled_and_scaled():
    data = load_digits()
    with np.load(DIGITS_FILE, allow_pickle=False) as arrays:
        stored, labels = arrays["images"], arrays["labels"]
    shown = np.concatenate([data.train_images, data.test_images])
    for row in range(16):
        for column in range(16):
            expected = np.rint(stored[:, row // 2, column // 2] / 16 * 255)
            assert (shown[:, row, column] == expected[:, None]).all()
    assert np.array_equal(np.concatenate([data.train_labels, data.test_labels]), labels)


def test_averaged_down_they_are_the_archives():
    data = load_digits().averaged(8)
    with np.load(DIGITS_FILE, allow_pickle=False) as arrays:
        stored = arrays["images"]
    shown = np.concatenate([data.train_images, data.test_images])
    assert np.array_equal(shown, np.rint(stored / 16 * 255)[..., None].repeat(3, axis=-1))
    assert not data.train_images.flags.writeable


def test_statistics_are_the_pools():
    pixels = load_digits().train_images.reshape(-1, 3) / 255
    mean, std = STATISTICS["digits"]
    assert np.abs(pixels.mean(axis=0) - mean).max() < 5e-5
    assert np.abs(pixels.std(axis=0) - std).max() < 5e-5


def test_arrays_are_read_only():
    data = load_digits()
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        assert not array.flags.writeable


def test_checksum_is_the_files_and_is_attributed():
    assert hashlib.sha256(DIGITS_FILE.read_bytes()).hexdigest() == DIGITS_SHA256
    assert load_digits().checksums == {"digits.npz": f"sha256:{DIGITS_SHA256}"}
    notice = DIGITS_FILE.with_name("DIGITS.md").read_text("utf-8")
    for phrase in ("Alpaydin", "Kaynak", "CC BY 4.0", "10.24432/C50P49", DIGITS_SHA256):
        assert phrase in notice


def test_an_altered_byte_is_refused(tmp_path):
    content = bytearray(DIGITS_FILE.read_bytes())
    content[1000] ^= 1
    (tmp_path / "digits.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged: expected sha256 b2dab.*; got .*pip install"):
        load_digits(tmp_path / "digits.npz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read the embedded digits .*none.npz \(No such file"):
        load_digits(tmp_path / "none.npz")
