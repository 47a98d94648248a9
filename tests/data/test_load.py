from __future__ import annotations

import hashlib
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from gradscape.data import STATISTICS, load_images
from gradscape.data.cifar import decode
from gradscape.data.cifar_editions import CIFAR100
from gradscape.data.cifar_files import find_files
from gradscape.data.load import load_edition
from gradscape.data.safe_pickle import read_pickle
from gradscape.errors import ConfigError, DataError


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_unknown_name():
    with pytest.raises(ConfigError, match=r"data set: expected digits, cifar10 or .*; got 'cifar'; did"):
        load_images("cifar")


def test_nothing_named_nothing_cached(cache):
    message = r"^cifar100 is needed and not on this machine; give --data-root DIR .* or --download$"
    with pytest.raises(DataError, match=message):
        load_images("cifar100", cache=cache)
    assert not cache.exists()


def test_a_root_without_the_data(tmp_path, cache):
    message = r"cifar10 is not in .*: looked for cifar-10-batches-py/ or cifar-10-python\.tar\.gz or .*"
    with pytest.raises(DataError, match=message + r"; correct --data-root or add --download"):
        load_images("cifar10", root=tmp_path, cache=cache)


def test_an_incomplete_folder_says_what_it_lacks(toy, tmp_path, cache):
    (toy.extract(tmp_path, "pickle") / "test").unlink()
    with pytest.raises(DataError, match=r"; .*cifar-100-python lacks test; correct --data-root"):
        load_edition(toy.edition, tmp_path, cache)


def test_the_cache_serves_without_a_root(toy, tmp_path, cache):
    folder = toy.extract(tmp_path, "pickle")
    first = load_edition(toy.edition, tmp_path, cache)
    shutil.rmtree(folder)
    again = load_edition(toy.edition, cache=cache)
    assert np.array_equal(again.train_images, first.train_images)
    assert again.checksums == first.checksums


def test_the_environment_names_the_cache(toy, tmp_path, cache, monkeypatch):
    monkeypatch.setenv("GRADSCAPE_CACHE", str(cache))
    toy.extract(tmp_path, "records")
    load_edition(toy.edition, tmp_path)
    assert (cache / "toy" / "record.json").exists()


def test_a_source_altered_later_is_verified_again(toy, tmp_path, cache):
    folder = toy.extract(tmp_path, "pickle")
    load_edition(toy.edition, tmp_path, cache)
    (folder / "train").write_bytes(b"other")
    with pytest.raises(DataError, match="train is not the published file"):
        load_edition(toy.edition, tmp_path, cache)


def damage(cache):
    path = next(cache.glob("toy/*/train_images.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_a_damaged_cache_is_rebuilt_from_the_source_it_names(toy, tmp_path, cache):
    toy.extract(tmp_path, "pickle")
    load_edition(toy.edition, tmp_path, cache)
    damage(cache)
    assert np.array_equal(load_edition(toy.edition, cache=cache).train_images, toy.nhwc()[:20])


def test_a_damaged_cache_whose_source_is_gone(toy, tmp_path, cache):
    folder = toy.extract(tmp_path, "pickle")
    load_edition(toy.edition, tmp_path, cache)
    damage(cache)
    shutil.rmtree(folder)
    with pytest.raises(DataError, match=r"cached copy of toy in .* is damaged and its source is gone; give"):
        load_edition(toy.edition, cache=cache)


def test_download_into_the_cache_then_no_more(toy, cache, site):
    site.content = toy.archive("records")
    edition = toy.publish("records", site.content)
    data = load_edition(edition, cache=cache, download=True, mirrors=[site.url])
    assert np.array_equal(data.train_images, toy.nhwc()[:20])
    damage(cache)  # the archive is kept, so a damaged cache costs no second download
    load_edition(edition, cache=cache, download=True, mirrors=[site.url])
    assert len(site.asked) == 1


def test_download_into_a_root(toy, tmp_path, cache, site):
    site.content = toy.archive("records")
    edition = toy.publish("records", site.content)
    load_edition(edition, tmp_path / "root", cache, download=True, mirrors=[site.url])
    assert (tmp_path / "root" / "cifar-100-binary.tar.gz").read_bytes() == site.content


def test_download_is_not_tried_where_the_data_is(toy, tmp_path, cache):
    toy.extract(tmp_path, "records")
    load_edition(toy.edition, tmp_path, cache, download=True, mirrors=[])


@pytest.mark.slow
def test_cifar100(cifar100_root, tmp_path, monkeypatch):
    first = load_images("cifar100", root=cifar100_root, cache=tmp_path)
    monkeypatch.delattr("gradscape.data.load.decode")  # so that only the cache can serve
    data = load_images("cifar100", root=cifar100_root, cache=tmp_path)
    assert isinstance(data.train_images.base, np.memmap)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert np.array_equal(getattr(first, name), getattr(data, name))
    assert data.train_images.shape == (50_000, 32, 32, 3)
    assert data.test_images.shape == (10_000, 32, 32, 3)
    assert (np.bincount(data.train_labels) == 500).all()
    assert (np.bincount(data.test_labels) == 100).all()
    assert data.classes[:2] == ("apple", "aquarium_fish")
    assert set(data.checksums) == {"train", "test", "meta"}
    assert_statistics(data.train_images)


def assert_statistics(images):
    # From the histogram of each channel: whole numbers, and no float copy of 150 million values.
    mean, std = STATISTICS["cifar100"]
    for channel in range(3):
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        values = np.arange(256) / 255
        centre = (counts * values).sum() / counts.sum()
        spread = np.sqrt((counts * (values - centre) ** 2).sum() / counts.sum())
        assert abs(centre - mean[channel]) < 5e-4
        assert abs(spread - std[channel]) < 5e-4


@pytest.mark.slow
def test_cifar100_archived_loads_as_extracted(cifar100_root, tmp_path):
    """The real files in an archive made here: the published one is not needed."""
    archive = tmp_path / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=0) as tar:
        tar.add(cifar100_root / "cifar-100-python", "cifar-100-python")
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    form = replace(CIFAR100.forms[0], archive_md5=digest)
    edition = replace(CIFAR100, forms=(form,))
    archived = decode(edition, find_files(edition, tmp_path))
    extracted = decode(CIFAR100, find_files(CIFAR100, cifar100_root))
    assert np.array_equal(archived.train_images, extracted.train_images)
    assert np.array_equal(archived.test_labels, extracted.test_labels)


@pytest.mark.slow
def test_cifar100s_binary_version_is_known_by_its_checksums(cifar100_root, tmp_path):
    """Its files are derived here as their checksums in the table were: from the verified Python version."""
    python = decode(CIFAR100, find_files(CIFAR100, cifar100_root))
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for name in ("train", "test"):
        held = read_pickle((cifar100_root / "cifar-100-python" / name).read_bytes(), name)
        heads = np.array([held["coarse_labels"], held["fine_labels"]], dtype=np.uint8).T
        (folder / f"{name}.bin").write_bytes(np.concatenate([heads, held["data"]], axis=1).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(python.classes) + "\n")
    binary = decode(CIFAR100, find_files(CIFAR100, tmp_path))
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert np.array_equal(getattr(binary, name), getattr(python, name))
    assert binary.classes == python.classes
