"""The server: what it answers, to whom, and what it never does."""

from __future__ import annotations

import errno
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.live.discovery import places
from gradscape.live.listen import listening
from gradscape.storage.watch_folder import WatchReader
from libraries import skip_without

skip_without("starlette")  # before what needs it
from starlette.testclient import TestClient  # noqa: E402

from cases import tiny  # noqa: E402
from gradscape.live.hub import Hub  # noqa: E402
from gradscape.live.server import Listeners, application  # noqa: E402
from live.watching import watch_in  # noqa: E402
from made_studies import ask, epoch, put  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    watch_in(tmp_path / "</script><b>w")
    watch_in(tmp_path / "second")
    return tmp_path


def client(folder: Path, token: str = "", base: str = "http://127.0.0.1") -> TestClient:
    listeners = Listeners()
    hub = Hub(folder, listeners.tell)
    hub.poll()
    return TestClient(application(hub, listeners, token), base_url=base)


def test_the_page_holds_every_run_as_a_table_for_browsers_without_scripts(folder: Path) -> None:
    answer = client(folder).get("/")
    assert answer.status_code == 200
    table = re.search(r"<noscript>.*</noscript>", answer.text, re.DOTALL)
    assert table is not None
    assert "<b>w" not in answer.text
    assert "&lt;/script&gt;&lt;b&gt;w" in table[0] or "second" in table[0]


def test_the_table_for_browsers_without_scripts_has_short_numbers_and_reasons(tmp_path: Path) -> None:
    ended = epoch(1, valid_accuracy=0.38666666666666666)
    put(tmp_path, tiny(seed=0), "running", [ended])
    put(tmp_path, tiny(seed=1), "failed", [ended], error="the disk is <full>")
    ask(tmp_path, [tiny(seed=0), tiny(seed=1)])
    table = client(tmp_path).get("/").text.split("<noscript>")[1].split("</noscript>")[0]
    assert "<td>0.387</td>" in table
    assert "0.3866" not in table
    assert "<td>the disk is &lt;full&gt;</td>" in table


def test_no_script_but_its_own_may_run_and_nothing_comes_from_elsewhere(folder: Path) -> None:
    first, second = (client(folder).get("/") for _ in range(2))
    policy = first.headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)
    assert nonce is not None
    assert f'<script nonce="{nonce[1]}">' in first.text
    assert nonce[1] not in second.text
    assert "default-src 'none'" in policy
    assert not re.search(r'(src|href)="(?!#|data:)', first.text)


def test_a_training_is_asked_for_by_its_name(folder: Path) -> None:
    with client(folder) as asked:
        found = asked.get("/api/training", params={"id": "second"})
        assert found.json()["steps"] == list(range(6))
        for other in ("../second", "%2e%2e/second", "second/watch.json", "/etc/passwd", "none"):
            answer = asked.get("/api/training", params={"id": other})
            assert answer.status_code == 404


def test_an_error_that_nobody_foresaw_is_told_as_the_others_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(hub: Hub, identity: str) -> None:
        raise IndexError("index 7 is out of bounds\nand more")

    monkeypatch.setattr(Hub, "document", fail)
    answer = client(folder).get("/api/training", params={"id": "second"})
    assert answer.status_code == 500
    assert answer.json() == {"error": "IndexError: index 7 is out of bounds"}
    assert "the live page cannot show a training" in caplog.text


def test_two_trainings_are_compared_as_gs_compare_does(folder: Path) -> None:
    watch_in(folder / "third", 20, deep=True)
    watch_in(folder / "fourth", 20)
    with client(folder) as asked:
        answer = asked.get("/api/comparison", params={"a": "third", "b": "fourth"})
        histories = []
        for name in ("third", "fourth"):
            reader = WatchReader(folder / name)
            reader.poll()
            histories.append(reader.history)
        found, said = gs.compare(*histories), answer.json()
        assert (said["verdict"], said["differs"]) == (found.verdict, True)
        numbers = [(each["step"], each["layer"], each["quantity"]) for each in said["differences"]]
        assert numbers == [(each.step, each.layer, each.quantity) for each in found.differences]
        assert said["differences"][0]["log_ratio"] == found.differences[0].log_ratio
        assert [each["name"] for each in said["settings"]] == [each.name for each in found.settings]
        assert tuple(said["only_a"]) == found.only_a
        for pair in ({"a": "third", "b": "../fourth"}, {"a": "third"}, {}):
            assert asked.get("/api/comparison", params=pair).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/watch.json", "/second/watch.json", "/static/x", "/api", "/api/training", "/api/training/second"],
)
def test_no_file_is_served(folder: Path, path: str) -> None:
    assert client(folder).get(path).status_code == 404


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_it_only_reads(folder: Path, method: str) -> None:
    assert getattr(client(folder), method)("/").status_code == 405


def test_another_sites_name_leads_nowhere(folder: Path) -> None:
    """A page of another site whose name points here could read everything else."""
    assert client(folder, base="http://evil.example").get("/").status_code == 400


def test_with_a_token_nothing_is_told_without_it(folder: Path) -> None:
    asked = client(folder, "secret")
    for path in ("/", "/events", "/api/training?id=second", "/api/comparison?a=second&b=second"):
        assert asked.get(path).status_code == 403
        assert asked.get(path, params={"token": "Secret"}).status_code == 403
    assert asked.get("/", params={"token": "secret"}).status_code == 200


def started(folder: Path, *flags: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "gradscape", "live", str(folder), *flags]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, line.strip() if line.startswith("http") else process.stdout.readline().strip()


@pytest.mark.slow
def test_a_taken_port_leads_to_the_next_and_ctrl_c_ends_it_well(folder: Path) -> None:
    import urllib.request

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process, address = started(folder, "--port", str(port))
        with process:
            assert address != f"http://127.0.0.1:{port}/"
            assert urllib.request.urlopen(address).status == 200
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    assert err == "gradscape: stopped; the page is closed, and what trains goes on\n"
    assert process.returncode == 130


def test_the_address_is_told_before_what_takes_time_is_loaded(tmp_path: Path) -> None:
    code = """
import sys
from gradscape.live.listen import listening
import gradscape.cli.live
with listening("127.0.0.1", 0, print):
    print(sorted({"numpy", "uvicorn", "starlette", "matplotlib", "torch"} & set(sys.modules)))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n\[\]\n", said)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as found:
            found.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["::1", "[::1]", "::", "127.0.0.1", "localhost"])
def test_the_address_that_is_told_is_the_one_that_is_listened_on(host: str, folder: Path) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("there is no IPv6 here")
    said: list[str] = []
    with listening(host, 0, said.append):
        parts = urlsplit(said[0])
        assert parts.hostname is not None
        socket.create_connection((parts.hostname, parts.port or 0), timeout=5).close()
    assert parts.hostname in ("::1", "::") if ":" in host else parts.hostname == "127.0.0.1"
    assert (
        client(folder, base="http://[::1]:8765" if ":" in host else "http://localhost").get("/").status_code
        == 200
    )


@pytest.mark.parametrize("host", ["", "[]", " "])
def test_no_address_is_not_every_address(host: str) -> None:
    wanted = r"--host: expected an address; got none; type 0\.0\.0\.0 for all"
    with pytest.raises(ConfigError, match=wanted), listening(host, 0, lambda line: None):
        pass


def test_beyond_the_last_port_there_is_none_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(self: socket.socket, address: tuple[str, int]) -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use") if address[1] <= 65_535 else OverflowError

    class Taken(socket.socket):
        bind = taken

    monkeypatch.setattr("gradscape.live.listen.socket.socket", Taken)
    wanted = "--port: 65530 to 65535 are all taken; give another"
    with pytest.raises(ConfigError, match=wanted), listening("127.0.0.1", 65_530, lambda line: None):
        pass


@pytest.mark.slow
def test_another_address_asks_for_a_token(folder: Path) -> None:
    import urllib.error
    import urllib.request

    process, address = started(folder, "--port", "0", "--host", "0.0.0.0", "--end-with-input")
    with process:
        local = address.replace("0.0.0.0", "127.0.0.1")
        assert urllib.request.urlopen(local).status == 200
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(local.split("?")[0])
        process.communicate(timeout=30)  # closes its input
    assert process.returncode == 0


@pytest.mark.slow
def test_news_come_as_they_are_written_and_two_may_look_at_once(folder: Path) -> None:
    import urllib.request

    process, address = started(folder, "--port", "0", "--end-with-input")
    with process:
        streams = [urllib.request.urlopen(f"{address}events", timeout=30) for _ in range(2)]
        for stream in streams:
            everything = json.loads(stream.readline()[6:])
            assert stream.readline() == b"\n"
            assert isinstance(everything["runs_all"], list)
        watch_in(folder / "third")
        for stream in streams:
            seen: set[str] = set()
            while "third" not in seen:
                line = stream.readline()
                if line.startswith(b"data: "):
                    seen |= {row["id"] for row in json.loads(line[6:]).get("runs", ())}
            stream.close()
        process.communicate(timeout=30)
    assert [place.name for place in places(folder)[0] if place.name == "third"] == ["third"]
