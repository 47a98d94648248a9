from __future__ import annotations

import hashlib
import os
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from gradscape.data.cifar import decode
from gradscape.data.cifar_editions import CIFAR10, CIFAR100, EDITIONS
from gradscape.data.cifar_files import find_files
from gradscape.errors import DataError


def read(edition, root):
    found = find_files(edition, root)
    assert found is not None
    return decode(edition, found)


def same_as(toy, data):
    assert np.array_equal(data.train_images, toy.nhwc()[:20])
    assert np.array_equal(data.test_images, toy.nhwc()[20:])
    assert np.array_equal(data.train_labels, toy.labels[:20])
    assert np.array_equal(data.test_labels, toy.labels[20:])
    assert data.train_labels.dtype == np.int64
    assert data.classes == ("class0", "class1", "class2", "class3", "class4")
    return True


@pytest.mark.parametrize("form", ["pickle", "records"])
def test_extracted_folder_or_its_parent(toy, tmp_path, form):
    folder = toy.extract(tmp_path, form)
    assert same_as(toy, read(toy.edition, tmp_path))
    assert same_as(toy, read(toy.edition, folder))


@pytest.mark.parametrize("form", ["pickle", "records"])
def test_archive_is_read_without_extraction(toy, tmp_path, form):
    content = toy.archive(form)
    edition = toy.publish(form, content)
    chosen = next(f for f in edition.forms if f.kind == form)
    (tmp_path / chosen.archive).write_bytes(content)
    data = read(edition, tmp_path)
    assert same_as(toy, data)
    assert data.checksums == {chosen.archive: f"md5:{chosen.archive_md5}"}
    assert [path.name for path in tmp_path.iterdir()] == [chosen.archive]


def test_checksums_say_what_was_verified(toy, tmp_path):
    toy.extract(tmp_path, "pickle")
    verified = read(toy.edition, tmp_path).checksums
    assert verified == toy.edition.forms[0].checksums


def test_class_names_are_compared_as_names(toy, tmp_path):
    folder = toy.extract(tmp_path, "records")
    (folder / "fine_label_names.txt").write_bytes(b"class0 class1\r\nclass2\nclass3 class4\n\n")
    assert same_as(toy, read(toy.edition, tmp_path))
    (folder / "fine_label_names.txt").write_bytes(b"class1 class0\nclass2\nclass3 class4\n")
    with pytest.raises(DataError, match=r"names\.txt does not name the 5 classes of toy; delete it and"):
        read(toy.edition, tmp_path)


@pytest.mark.parametrize("edition", EDITIONS.values(), ids=EDITIONS)
def test_made_up_images_of_the_right_size_are_refused(edition, tmp_path):
    form = edition.download
    (tmp_path / form.folder).mkdir()
    width = len(edition.label_limits) + 3 * edition.side**2
    for name in form.files:
        with (tmp_path / form.folder / name).open("wb") as file:
            file.truncate(width * (edition.test_count if name in form.test else edition.train_count))
    with pytest.raises(DataError, match=r"is not the published file: expected sha(1|256):[0-9a-f]+; got"):
        read(edition, tmp_path)


def test_an_absurdly_large_file_is_not_read(toy, tmp_path):
    folder = toy.extract(tmp_path, "pickle")
    with (folder / "train").open("wb") as file:
        file.truncate(10**11)  # a hole: it takes no room
    with pytest.raises(DataError, match=r"train has 100,000,000,000 bytes, no published file has 200"):
        read(toy.edition, tmp_path)


def test_a_pipe_in_a_files_place_is_no_file(toy, tmp_path):
    folder = toy.extract(tmp_path, "pickle")
    (folder / "train").unlink()
    os.mkfifo(folder / "train")
    assert find_files(toy.edition, tmp_path) is None


def test_several_training_files_are_joined_in_order(toy, tmp_path):
    folder = toy.extract(tmp_path, "records")
    whole = toy.records["train.bin"]
    (folder / "train.bin").unlink()
    (folder / "a.bin").write_bytes(whole[: len(whole) // 2])
    (folder / "b.bin").write_bytes(whole[len(whole) // 2 :])
    form = replace(toy.edition.forms[1], train=("a.bin", "b.bin"))
    edition = replace(toy.edition, train_count=10, forms=(form,))
    assert same_as(toy, read(edition, tmp_path))


def test_one_label_byte_as_in_cifar10(toy, tmp_path):
    folder = toy.extract(tmp_path, "records")
    for name in ("train.bin", "test.bin"):
        rows = np.frombuffer(toy.records[name], dtype=np.uint8).reshape(-1, 194)
        (folder / name).write_bytes(rows[:, 1:].tobytes())
    assert same_as(toy, read(replace(toy.edition, label_limits=(5,)), tmp_path))


@pytest.mark.parametrize("damage", [lambda c: c[:-1000], lambda c: c[:50] + b"?" + c[51:]])
def test_truncated_or_altered_pickle_is_refused_before_parsing(toy, tmp_path, damage):
    folder = toy.extract(tmp_path, "pickle")
    content = damage(toy.pickles["train"])
    (folder / "train").write_bytes(content)
    expected = toy.edition.forms[0].checksums["train"]
    message = rf"train is not the published file: expected {expected}; got .*{len(content):,} b"
    with pytest.raises(DataError, match=message + r"ytes\); delete it and fetch it again"):
        read(toy.edition, tmp_path)


def test_truncated_archive_is_refused(toy, tmp_path):
    content = toy.archive("records")
    edition = toy.publish("records", content)
    (tmp_path / "cifar-100-binary.tar.gz").write_bytes(content[:-10])
    with pytest.raises(DataError, match=r"cifar-100-binary\.tar\.gz is not the published file"):
        read(edition, tmp_path)


def test_truncated_records_are_refused(toy, tmp_path):
    folder = toy.extract(tmp_path, "records")
    (folder / "train.bin").write_bytes(toy.records["train.bin"][:-7])
    with pytest.raises(DataError, match=r"train\.bin .*wrong size: expected 3,880 bytes; got 3,873"):
        read(toy.edition, tmp_path)


@pytest.mark.parametrize(("place", "limit"), [(0, 2), (1, 5)])
def test_labels_out_of_range_are_refused(toy, tmp_path, place, limit):
    folder = toy.extract(tmp_path, "records")
    content = bytearray(toy.records["test.bin"])
    content[194 + place] = 200
    (folder / "test.bin").write_bytes(content)
    with pytest.raises(DataError, match=rf"test\.bin holds labels outside 0 … {limit - 1}"):
        read(toy.edition, tmp_path)


def test_wrong_number_of_names_is_refused(toy, tmp_path):
    folder = toy.extract(tmp_path, "records")
    (folder / "fine_label_names.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"fine_label_names\.txt does not name the 5 classes"):
        read(toy.edition, tmp_path)


class Payload:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "train holds a list, not a dict"),
        (
            {"data": [1], "fine_labels": [1]},
            r"train holds no uint8 array `data` of shape \(20, 192\)",
        ),
        ({"data": np.zeros((20, 192), np.uint8)}, "train holds no list `fine_labels` of 20 labels"),
        (
            {"data": np.zeros((20, 192), np.uint8), "fine_labels": [9] * 20},
            "train holds labels outside 0 … 4",
        ),
        (
            {"data": np.zeros((20, 192), np.uint8), "fine_labels": ["x"] * 20},
            "train holds labels outside 0 … 4",
        ),
    ],
)
def test_pickles_of_another_content_are_refused(toy, tmp_path, value, message):
    self_made(toy, tmp_path, value, message)


def test_a_malicious_file_with_the_right_checksum_does_not_run(toy, tmp_path):
    witness = tmp_path / "ran"
    self_made(toy, tmp_path, {"data": Payload(witness)}, r"train: the pickle calls \w+\.system")
    assert not witness.exists()


def self_made(toy, root, value, message):
    """A train file whose checksum is in the table, so that only its content can be refused."""
    from hashlib import md5

    folder = toy.extract(root, "pickle")
    content = pickle.dumps(value, protocol=2)
    (folder / "train").write_bytes(content)
    edition = toy.publish("pickle", train=md5(content).hexdigest())
    with pytest.raises(DataError, match=message):
        read(edition, root)


def member(name, kind=tarfile.REGTYPE, link=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    made.size = 4 if kind == tarfile.REGTYPE else 0
    return made


def test_members_that_reach_outside_are_ignored(toy, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(b"kept")
    evil = (
        member("../secret"),
        member(str(secret)),
        member("cifar-100-binary/train.bin", tarfile.SYMTYPE, "../../secret"),
        member("cifar-100-binary/test.bin", tarfile.LNKTYPE, "../secret"),
        member("cifar-100-binary/../cifar-100-binary/train.bin"),
    )
    content = toy.archive("records", evil)
    (root / "cifar-100-binary.tar.gz").write_bytes(content)
    assert same_as(toy, read(toy.publish("records", content), root))
    assert secret.read_bytes() == b"kept"
    assert len(list(tmp_path.rglob("*"))) == 3


def test_an_archive_that_lacks_a_file_is_named(toy, tmp_path):
    toy = replace(toy, records={k: v for k, v in toy.records.items() if k != "test.bin"})
    content = toy.archive("records")
    (tmp_path / "cifar-100-binary.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"cifar-100-binary\.tar\.gz lacks test\.bin"):
        read(toy.publish("records", content), tmp_path)


def test_an_archive_that_is_none_is_named(toy, tmp_path):
    content = b"<html>not found</html>"
    (tmp_path / "cifar-100-binary.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"cifar-100-binary\.tar\.gz is not a readable archive"):
        read(toy.publish("records", content), tmp_path)


def test_an_unreadable_file_is_named(toy, tmp_path):
    toy.extract(tmp_path, "pickle")
    found = find_files(toy.edition, tmp_path)
    found.paths[0].unlink()
    with pytest.raises(DataError, match=r"cannot read .*train \(No such file or directory\)"):
        decode(toy.edition, found)


def test_the_published_tables():
    assert EDITIONS == {"cifar10": CIFAR10, "cifar100": CIFAR100}
    for edition in EDITIONS.values():
        assert edition.download.archive in edition.mirrors[0]
        for form in edition.forms:
            for checksum in (f"md5:{form.archive_md5}", *form.checksums.values()):
                kind, digest = checksum.split(":")
                assert len(bytes.fromhex(digest)) == hashlib.new(kind).digest_size
            names = {form.names} if form.kind == "records" else set()  # compared as names
            assert set(form.checksums) == set(form.files) - names
    assert (CIFAR100.classes, CIFAR10.classes) == (100, 10)
    assert CIFAR10.train_count * len(CIFAR10.forms[0].train) == 50_000
