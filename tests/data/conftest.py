"""A small edition of the CIFAR kind in all its forms, and a web server with faults."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from gradscape.data.cifar_editions import CIFAR100, Edition


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@dataclass
class Toy:
    """30 images of 8×8 in 5 classes: what is in them, and the bytes of every published file."""

    edition: Edition
    pixels: np.ndarray  # (30, 3, 8, 8), the first 20 train
    labels: np.ndarray
    pickles: dict[str, bytes]
    records: dict[str, bytes]

    def nhwc(self) -> np.ndarray:
        return self.pixels.transpose(0, 2, 3, 1)

    def extract(self, root: Path, form: str) -> Path:
        """Write one form's files into its folder under root."""
        chosen = next(f for f in self.edition.forms if f.kind == form)
        folder = root / chosen.folder
        folder.mkdir(parents=True)
        for name, content in (self.pickles if form == "pickle" else self.records).items():
            (folder / name).write_bytes(content)
        return folder

    def archive(self, form: str, extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
        """The form's archive; members in `extra` come first."""
        chosen = next(f for f in self.edition.forms if f.kind == form)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for member in extra:
                archive.addfile(member, io.BytesIO(b"evil"))
            for name, content in (self.pickles if form == "pickle" else self.records).items():
                member = tarfile.TarInfo(f"{chosen.folder}/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    def publish(self, form: str, archive: bytes | None = None, **md5s: str) -> Edition:
        """The edition with this archive's checksum, or these files', in its table."""
        forms = tuple(
            replace(
                f,
                archive_md5=md5(archive) if archive is not None else f.archive_md5,
                archive_size=len(archive) if archive is not None else f.archive_size,
                checksums={**f.checksums, **{name: f"md5:{digest}" for name, digest in md5s.items()}},
            )
            if f.kind == form
            else f
            for f in self.edition.forms
        )
        return replace(self.edition, forms=forms)


@pytest.fixture(scope="session")
def toy() -> Toy:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 3, 8, 8), dtype=np.uint8)
    labels = rng.permutation(np.arange(30) % 5)
    names = [f"class{i}" for i in range(5)]
    pickles = {"meta": pickle.dumps({"fine_label_names": names}, protocol=2)}
    records = {"fine_label_names.txt": "\n".join(names).encode() + b"\n"}
    for name, part in (("train", slice(0, 20)), ("test", slice(20, 30))):
        rows, fine = pixels[part].reshape(-1, 192), labels[part]
        pickles[name] = pickle.dumps({"data": rows, "fine_labels": fine.tolist()}, protocol=2)
        heads = np.stack([fine % 2, fine], axis=1).astype(np.uint8)
        records[f"{name}.bin"] = np.concatenate([heads, rows], axis=1).tobytes()
    toy = Toy(CIFAR100, pixels, labels, pickles, records)
    python, binary = CIFAR100.forms
    toy.edition = replace(
        CIFAR100,
        name="toy",
        side=8,
        label_limits=(2, 5),
        names_sha256=hashlib.sha256("\n".join(names).encode()).hexdigest(),
        train_count=20,
        test_count=10,
        forms=(
            replace(python, checksums={name: f"md5:{md5(content)}" for name, content in pickles.items()}),
            replace(binary, archive_md5="", checksums={}),
        ),
    )
    return toy


@dataclass
class Site:
    """A file served at `url`, the faults of its server, and the Range headers it was asked with."""

    content: bytes
    url: str = ""
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes sent before each next connection breaks
    status: int = 200
    asked: list[str | None] = field(default_factory=list)
    delay: float = 0.0


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            site.asked.append(asked)
            threading.Event().wait(site.delay)
            start, total = 0, len(site.content)
            if site.status == 302:
                self.send_response(302)
                self.send_header("Location", "ftp://127.0.0.1/file")
                self.end_headers()
                return
            if site.status != 200:
                self.send_error(site.status)
                return
            if asked and site.ranges:
                found = re.fullmatch(r"bytes=(\d+)-", asked)
                assert found is not None
                start = int(found[1])
                if start >= total:
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(total - start))
            self.end_headers()
            stop = start + site.cuts.pop(0) if site.cuts else total
            self.wfile.write(site.content[start:stop])

    return Handler


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    site = Site(np.random.default_rng(1).bytes(300_000))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site))
    site.url = f"http://127.0.0.1:{server.server_address[1]}/file"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def python_env() -> dict[str, str]:
    """The environment in which a child process finds the package under test."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
