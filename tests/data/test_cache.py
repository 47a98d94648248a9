from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradscape.data.cache import ARRAYS, cache_folder, cached_sources, open_cached, open_or_decode
from gradscape.data.images import ImageSet
from gradscape.errors import ConfigError, DataError


def made(fill=7):
    return ImageSet(
        name="toy",
        train_images=np.full((20, 4, 4, 3), fill, dtype=np.uint8),
        train_labels=np.arange(20, dtype=np.int64),
        test_images=np.zeros((10, 4, 4, 3), dtype=np.uint8),
        test_labels=np.arange(10, dtype=np.int64),
        classes=("a", "b"),
        checksums={"source": "md5:0"},
    )


class Decoder:
    """Counts how often it is called, and gives a set filled with that count."""

    calls = 0

    def __call__(self):
        self.calls += 1
        return made(self.calls)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "toy"


def test_made_once_then_mapped_and_equal(folder, source):
    decoder = Decoder()
    first, second = (open_or_decode(folder, [source], decoder) for _ in range(2))
    assert decoder.calls == 1
    for name in ARRAYS:
        array = getattr(second, name)
        assert np.array_equal(array, getattr(first, name))
        assert np.array_equal(array, getattr(made(1), name))
        assert array.dtype == getattr(made(), name).dtype
        assert not array.flags.writeable
        assert type(array) is np.ndarray
        assert isinstance(array.base, np.memmap)
    assert second.classes == ("a", "b")
    assert second.checksums == {"source": "md5:0"}
    assert cached_sources(folder) == (source,)
    assert len(list(folder.iterdir())) == 3  # the record, the arrays, the lock


@pytest.mark.parametrize("change", ["size", "time", "path"])
def test_changed_sources_are_read_again(folder, source, change):
    decoder = Decoder()
    open_or_decode(folder, [source], decoder)
    if change == "size":
        source.write_bytes(b"longer content")
    elif change == "time":
        os.utime(source, ns=(1, 1))
    else:
        source = source.rename(source.with_name("other"))
    assert open_or_decode(folder, [source], decoder).train_images[0, 0, 0, 0] == 2
    assert len(list(folder.glob("arrays-*"))) == 1


def test_arrays_in_use_survive_a_rebuild(folder, source):
    decoder = Decoder()
    held = open_or_decode(folder, [source], decoder)
    source.write_bytes(b"longer content")
    open_or_decode(folder, [source], decoder)
    assert (held.train_images == 1).all()


def flip_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a byte": lambda folder: flip_byte(next(folder.glob("*/train_images.npy"))),
    "a label": lambda folder: flip_byte(next(folder.glob("*/test_labels.npy"))),
    "size": lambda folder: os.truncate(next(folder.glob("*/test_images.npy")), 100),
    "gone": lambda folder: next(folder.glob("*/test_images.npy")).unlink(),
    "record": lambda folder: os.truncate(folder / "record.json", 40),
    "no record": lambda folder: (folder / "record.json").write_text("[1, 2]"),
    "class name": lambda folder: (folder / "record.json").write_text(
        (folder / "record.json").read_text().replace('"a"', '"c"')
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_found_and_rebuilt(folder, source, damage):
    decoder = Decoder()
    open_or_decode(folder, [source], decoder)
    damage(folder)
    assert open_cached(folder) is None
    assert open_or_decode(folder, [source], decoder).train_images[0, 0, 0, 0] == 2
    assert open_cached(folder) is not None


def test_a_record_of_another_format_is_rebuilt(folder, source, monkeypatch):
    decoder = Decoder()
    open_or_decode(folder, [source], decoder)
    monkeypatch.setattr("gradscape.data.cache.FORMAT", 2)
    open_or_decode(folder, [source], decoder)
    assert decoder.calls == 2


def test_leftovers_of_a_killed_process_are_removed(folder, source):
    (folder / "arrays-dead").mkdir(parents=True)
    (folder / "arrays-dead" / "train_images.npy").write_bytes(b"half")
    open_or_decode(folder, [source], Decoder())
    assert not (folder / "arrays-dead").exists()


@pytest.mark.parametrize("error", [DataError("refused"), KeyboardInterrupt()])
def test_nothing_is_left_when_decoding_stops(folder, source, error):
    def stop():
        raise error

    with pytest.raises(type(error)):
        open_or_decode(folder, [source], stop)
    assert [path.name for path in folder.iterdir() if path.name != "lock"] == []


def test_interrupted_between_arrays_leaves_the_older_set(folder, source):
    open_or_decode(folder, [source], Decoder())
    os.utime(source, ns=(1, 1))
    broken = replace(made(9), test_labels=np.array([object()]))  # cannot be saved: a pickle
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        open_or_decode(folder, [source], lambda: broken)
    assert (open_cached(folder).train_images == 1).all()
    assert len(list(folder.glob("arrays-*"))) == 1


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from gradscape.data.cache import open_or_decode
from gradscape.data.images import ImageSet
from gradscape.errors import DataError

images, labels = np.zeros((2000, 8, 8, 3), np.uint8), np.zeros(2000, np.int64)
made = ImageSet("toy", images, labels, images, labels, ("a",), {})
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    open_or_decode(Path(sys.argv[1]), [Path(sys.argv[2])], lambda: made)
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 100_000])  # bytes a file may have: none, or a part of an array
def test_a_full_disk_is_told_and_nothing_is_left(folder, source, python_env, limit):
    pytest.importorskip("resource")
    command = [sys.executable, "-c", FULL_DISK, str(folder), str(source), str(limit)]
    done = subprocess.run(command, env=python_env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"cannot write to the image cache {folder} (File too large); ")
    assert done.stdout.endswith("or choose another with GRADSCAPE_CACHE=DIR\n")
    assert [path.name for path in folder.iterdir() if path.name != "lock"] == []


def test_a_record_that_cannot_be_written_is_told_and_nothing_is_left(folder, source):
    folder.mkdir(parents=True)
    (folder / "record.json.new").symlink_to("/dev/full")  # every write to it: no space left
    with pytest.raises(DataError, match=r"cannot write to the image cache .*\(No space left on device"):
        open_or_decode(folder, [source], Decoder())
    assert [path.name for path in folder.iterdir() if path.name != "lock"] == []


@pytest.mark.parametrize("place", ["", "deeper"])
def test_an_unwritable_folder_is_told(tmp_path, source, place):
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"cannot write to the image cache .*; free or permit that"):
        open_or_decode(tmp_path / "file" / place, [source], Decoder())


def test_a_disk_that_gives_back_other_bytes_is_told(folder, source, monkeypatch):
    monkeypatch.setattr("gradscape.data.cache._write_array", lambda path, array: "0" * 64)
    with pytest.raises(DataError, match=r"differs from what was written; check that disk"):
        open_or_decode(folder, [source], Decoder())


RACE = """
import sys, time
from pathlib import Path
import numpy as np
from gradscape.data.cache import open_or_decode
from gradscape.data.images import ImageSet

def decode():
    with open(sys.argv[3], "a") as log:
        log.write("decoded\\n")
    time.sleep(0.3)
    images, labels = np.full((2000, 8, 8, 3), 5, np.uint8), np.zeros(2000, np.int64)
    return ImageSet("toy", images, labels, images, labels, ("a",), {})

assert (open_or_decode(Path(sys.argv[1]), [Path(sys.argv[2])], decode).train_images == 5).all()
"""


def test_processes_that_start_together_decode_once(folder, source, tmp_path, python_env):
    log = tmp_path / "log"
    command = [sys.executable, "-c", RACE, str(folder), str(source), str(log)]
    children = [subprocess.Popen(command, env=python_env) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert log.read_text() == "decoded\n"


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("GRADSCAPE_CACHE", raising=False)
    assert cache_folder().name == "gradscape"
    monkeypatch.setenv("GRADSCAPE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert cache_folder(Path("elsewhere")) == Path("elsewhere")
    monkeypatch.setenv("GRADSCAPE_CACHE", "~nobody-of-this-name/x")
    with pytest.raises(ConfigError, match="GRADSCAPE_CACHE: expected a file or folder; got ~nobody"):
        cache_folder()


def test_the_record_is_plain_json(folder, source):
    open_or_decode(folder, [source], Decoder())
    record = json.loads((folder / "record.json").read_text())["record"]
    assert record["sources"] == [{"path": str(source), "size": 7, "mtime_ns": source.stat().st_mtime_ns}]
    assert set(record["sha256"]) == set(ARRAYS)
    assert record["checksums"] == {"source": "md5:0"}
