from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from gradscape.data.safe_pickle import read_pickle
from gradscape.errors import DataError


class Payload:
    """Runs a command when a plain unpickler reads it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_arrays_and_plain_values_come_back(protocol):
    value = {"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": [1, 2], "name": "é"}
    back = read_pickle(pickle.dumps(value, protocol), "file")
    assert np.array_equal(back["data"], value["data"])
    assert back["labels"] == [1, 2]
    assert back["name"] == "é"


def test_numpy_1s_module_name_is_admitted():
    content = pickle.dumps(np.arange(5), protocol=2).replace(b"numpy._core", b"numpy.core")
    assert np.array_equal(read_pickle(content, "file"), np.arange(5))


def test_a_python_2_pickle_is_read():
    # What Python 2 wrote for {"data": numpy.array([1, 254], dtype="uint8"), "n": "é" in latin1}.
    content = (
        b"\x80\x02}q\x01(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U"
        b"\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff"
        b"\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x01\xfetbU\x01nU\x01\xe9u."
    )
    back = read_pickle(content, "file")
    assert back["data"].tolist() == [1, 254]
    assert back["n"] == "é"


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_does_not_run(tmp_path: Path, protocol: int):
    witness = tmp_path / "ran"
    content = pickle.dumps({"data": Payload(f"touch {witness}")}, protocol)
    with pytest.raises(DataError, match=r"train: the pickle calls (posix|nt)\.system, .* not run"):
        read_pickle(content, "train")
    assert not witness.exists()
    pickle.loads(content)  # the payload is a real one
    assert witness.exists()


@pytest.mark.parametrize("name", ["builtins eval", "numpy load", "numpy.core.multiarray dot"])
def test_other_names_are_refused(name):
    module, attribute = name.split()
    content = b"c" + f"{module}\n{attribute}\n".encode() + b"."
    with pytest.raises(DataError, match=f"the pickle calls {module}.{attribute}"):
        read_pickle(content, "train")


def test_codecs_that_expand_are_refused():
    content = b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00bz2zztR."
    with pytest.raises(DataError, match=r"train is not a readable pickle .*encoding bz2zz"):
        read_pickle(content, "train")


@pytest.mark.parametrize("content", [b"", b"\x80\x02}q\x01(U", b"not a pickle at all"])
def test_a_truncated_pickle_is_named(content):
    with pytest.raises(DataError, match=r"train is not a readable pickle .*--download"):
        read_pickle(content, "train")
