from __future__ import annotations

import io
import subprocess
import sys
from hashlib import md5

import pytest

from gradscape.data import download as module
from gradscape.data.download import download
from gradscape.errors import DataError

SIZE = 300_000  # of what the site serves


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "folder" / "file.tar.gz"


def digest(site):
    return md5(site.content).hexdigest()


def part(target):
    return target.with_name(target.name + ".part")


def start_with(target, content):
    target.parent.mkdir()
    part(target).write_bytes(content)


def test_fetched_once(site, target):
    assert download([site.url], target, digest(site), SIZE) == target
    download([site.url], target, digest(site), SIZE)
    assert target.read_bytes() == site.content
    assert site.asked == [None]
    assert not part(target).exists()


def test_a_cut_connection_is_taken_up_by_range(site, target):
    site.cuts = [100_000, 50_000]
    download([site.url], target, digest(site), SIZE)
    assert target.read_bytes() == site.content
    assert site.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_an_earlier_part_is_continued(site, target):
    start_with(target, site.content[:12_345])
    download([site.url], target, digest(site), SIZE)
    assert target.read_bytes() == site.content
    assert site.asked == ["bytes=12345-"]


def test_a_part_that_is_whole_needs_only_its_checksum(site, target):
    start_with(target, site.content)
    download([site.url], target, digest(site), SIZE)
    assert target.read_bytes() == site.content
    assert site.asked == []


def test_a_server_that_ignores_range_starts_over(site, target):
    site.ranges = False
    start_with(target, b"x" * 1000)
    download([site.url], target, digest(site), SIZE)
    assert target.read_bytes() == site.content
    assert site.asked == ["bytes=1000-"]


def test_a_wrong_part_is_dropped_and_fetched_afresh(site, target):
    start_with(target, b"x" * 1000)
    download([site.url], target, digest(site), SIZE)
    assert target.read_bytes() == site.content
    assert site.asked == ["bytes=1000-", None]


def test_a_server_that_never_gets_further_is_given_up(site, target):
    site.ranges, site.cuts = False, [1000] * 10
    with pytest.raises(DataError, match=r"connection cut at 1,000 of 300,000 bytes"):
        download([site.url], target, digest(site), SIZE)
    assert part(target).stat().st_size == 1000  # kept, for the next time
    assert len(site.asked) == 2


def test_a_wrong_checksum_deletes_the_part_and_tries_the_next(site, target):
    wrong = "0" * 32
    message = rf"{site.url}: expected md5 {wrong}; got {digest(site)} \(300,000 bytes\); {site.url}: "
    with pytest.raises(DataError, match=message):
        download([site.url, site.url], target, wrong, SIZE)
    assert [path.name for path in target.parent.iterdir()] == ["file.tar.gz.lock"]
    assert site.asked == [None, None]


def test_a_file_of_another_content_is_replaced(site, target):
    target.parent.mkdir()
    target.write_bytes(b"truncated earlier")
    download([site.url], target, digest(site), SIZE)
    assert target.read_bytes() == site.content


def test_the_next_mirror_serves_when_one_fails(site, target):
    dead = "http://127.0.0.1:9/file"
    download([dead, site.url], target, digest(site), SIZE)
    assert target.read_bytes() == site.content


def test_all_mirrors_failing_are_listed_on_one_line(site, target):
    site.status = 404
    urls = ["http://127.0.0.1:9/f", site.url, "file:///etc/hostname", "nonsense"]
    with pytest.raises(DataError) as caught:
        download(urls, target, "0" * 32, SIZE)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("could not download file.tar.gz: http://127.0.0.1:9/f: ")
    assert f"; {site.url}: HTTP 404 Not Found; " in text
    assert "; file:///etc/hostname: unknown url type: file; " in text
    assert "; nonsense: unknown url type: 'nonsense'; " in text
    assert text.endswith("or fetch the file yourself and name its folder with --data-root DIR")


def test_a_redirection_away_from_http_is_refused(site, target):
    site.status = 302
    with pytest.raises(DataError, match=r"file: unknown url type: ftp"):
        download([site.url], target, digest(site), SIZE)


def test_no_mirror(target):
    with pytest.raises(DataError, match="there is no mirror"):
        download([], target, "0" * 32, SIZE)


def test_a_silent_server_is_given_up(site, target, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    site.delay = 0.3
    with pytest.raises(DataError, match="timed out"):
        download([site.url], target, digest(site), SIZE)


def test_a_full_disk_is_told_and_is_not_the_mirrors_fault(site, target):
    target.parent.mkdir()
    part(target).symlink_to("/dev/full")  # every write to it: no space left
    with pytest.raises(DataError, match=r"cannot write .*file\.tar\.gz \(No space left on device\)"):
        download([site.url, site.url], target, digest(site), SIZE)
    assert len(site.asked) == 1


def test_an_unwritable_folder_is_told(site, tmp_path):
    (tmp_path / "folder").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"cannot write .*\(File exists\); free or permit that folder"):
        download([site.url], tmp_path / "folder" / "file", digest(site), SIZE)


FETCH = """
import sys
from pathlib import Path
from gradscape.data.download import download
download([sys.argv[1]], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
"""


def test_processes_that_start_together_download_once(site, target, python_env):
    site.delay = 0.3
    command = [sys.executable, "-c", FETCH, site.url, str(target), digest(site), str(SIZE)]
    children = [subprocess.Popen(command, env=python_env) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert target.read_bytes() == site.content
    assert site.asked == [None]


def test_a_killed_download_continues(site, target, python_env):
    site.cuts = [200_000]
    pause = "import gradscape.data.download as d; d.PAUSE = 60.0\n"
    command = [sys.executable, "-c", pause + FETCH, site.url, str(target), digest(site), str(SIZE)]
    child = subprocess.Popen(command, env=python_env)
    while not (part(target).exists() and part(target).stat().st_size == 200_000):
        assert child.poll() is None
    child.kill()
    child.wait()
    download([site.url], target, digest(site), SIZE)
    assert target.read_bytes() == site.content
    assert site.asked == [None, "bytes=200000-"]


def test_a_terminal_gets_a_progress_bar(site, target, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    download([site.url], target, digest(site), SIZE)
    assert "file.tar.gz" in sys.stderr.getvalue()
    assert "300.0/300.0 kB" in sys.stderr.getvalue()
