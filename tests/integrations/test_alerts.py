"""Receivers against a real server and real commands; names of layers are text to all of them, and no more."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gradscape.errors import ConfigError, NotDelivered
from gradscape.integrations import Command, Webhook
from gradscape.integrations import alerts as receivers
from gradscape.integrations.alerts import discord_payload, json_payload, slack_payload
from gradscape.measure.watch.alert_delivery import WAITING, Delivery
from gradscape.records.alert import Alert
from gradscape.records.diagnosis import Finding, Symptom

SECRET = "/services/T0/B0/xyzSECRETxyz"
HOSTILE = "@everyone <!channel> <@U1> *b* _i_ `c` ||s|| [a](http://e.x) # \n> \x1b[31m\u202e & $(touch x)"


def alert(layer: str = "0.weight", run: str = "run 7", cause: str = "a cause") -> Alert:
    symptom = Symptom("a number", float("inf"), 1.0, "a source")
    return Alert(Finding("exploding", layer, cause, "a remedy", (symptom,)), 120, 5.0, run)


class Server(ThreadingHTTPServer):
    """Web server that keeps what was posted and answers as it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.codes: list[int] = []  # of the next answers; then 200
        self.posted: list[tuple[str, dict[str, str], bytes]] = []
        self.hangs = threading.Event()
        self.hanging = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{SECRET}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, dict(self.headers), body))
        if self.server.hanging:
            self.server.hangs.wait(60)
        code = self.server.codes.pop(0) if self.server.codes else 200
        self.send_response(code, f"of {self.path}" if code == 418 else None)
        if code in (301, 302, 303, 307, 308):
            self.send_header("Location", "file:///etc/passwd" if code == 302 else f"{self.path}/moved")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(receivers, "PAUSES", (0.01, 0.01))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.hangs.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_all_of_an_alert_is_posted_as_json(server: Server) -> None:
    Webhook(server.url)(alert())
    ((path, headers, body),) = server.posted
    assert path == SECRET
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("gradscape/")
    assert json.loads(body) == {
        "source": "gradscape", "verdict": "exploding", "layer": "0.weight", "grade": "fail",
        "heading": "exploding, beginning at 0.weight", "text": "cause: a cause\nwhat would help: a remedy",
        "step": 120, "time": 5.0, "run": "run 7",
        "finding": {
            "verdict": "exploding", "layer": "0.weight", "cause": "a cause", "remedy": "a remedy",
            "evidence": [{"what": "a number", "value": "Infinity", "limit": 1.0, "source": "a source",
                          "below": False}],
            "place": "", "mild": False,
        },
    }  # fmt: skip


def test_slack_and_discord_have_the_form_that_they_ask_for(server: Server) -> None:
    Webhook(server.url, kind="slack")(alert())
    Webhook(server.url, kind="discord")(alert())
    slack, discord = (json.loads(body) for _, _, body in server.posted)
    assert slack == {
        "text": "fail at step 120 of run 7: exploding, beginning at 0.weight\ncause: a cause\n"
        "what would help: a remedy",
        "mrkdwn": False, "parse": "none", "link_names": False, "unfurl_links": False, "unfurl_media": False,
    }  # fmt: skip
    assert discord == {
        "content": "fail at step 120 of run 7\\: exploding, beginning at 0\\.weight\ncause\\: a cause\n"
        "what would help\\: a remedy",
        "allowed_mentions": {"parse": []},
        "flags": 4,
    }


@pytest.mark.parametrize("form", [slack_payload, discord_payload, json_payload])
def test_hostile_names_stay_text_and_long_ones_are_cut(form: Any) -> None:
    for name in (HOSTILE, HOSTILE * 5_000, "\\" * 5_000, "@" * 5_000, "<" * 5_000):
        payload = form(alert(name, run=name, cause=name))
        json.dumps(payload).encode()
        assert len(payload.get("content", "")) < 2_000  # Discord takes no more
        assert len(payload.get("text", "")) < 4_000  # and Slack shows no more as one message
        assert len(json.dumps(payload)) < 100_000
        for text in (payload.get("content", ""), payload.get("text", "")):
            assert "\x1b" not in text
            assert "\u202e" not in text


def test_nobody_is_mentioned_and_nothing_is_markup() -> None:
    slack = slack_payload(alert(HOSTILE, HOSTILE, HOSTILE))["text"]
    assert not re.search(r"[<>]|@(?!\u200b)|&(?!amp;|lt;|gt;)", slack)
    discord = discord_payload(alert(HOSTILE, HOSTILE, HOSTILE))["content"]
    bare = re.sub(r"\\[^0-9A-Za-z\s]", "", discord)  # what Discord's parser takes as plain letters
    assert not re.search(r"[\\*_~`|>#\[\]()<:]|@(?!\u200b)", bare)
    assert len(slack.splitlines()) == len(discord.splitlines()) == 3


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("hooks.slack.com", "slack"), ("discord.com", "discord"), ("ptb.discord.com", "discord"),
        ("discordapp.com", "discord"), ("example.org", "json"), ("notslack.com", "json"),
        ("hooks.slack.com.evil.org", "json"), ("HOOKS.SLACK.COM", "slack"),
    ],
)  # fmt: skip
def test_the_kind_is_found_from_the_host(host: str, kind: str) -> None:
    assert Webhook(f"https://{host}{SECRET}").kind == kind


@pytest.mark.parametrize(
    "url",
    ["", "file:///etc/passwd", "ftp://x/y", "hooks.slack.com/services", "https://", "https://a b/c",
     "https://u:xyzSECRETxyz@host/c", "https://host/xyzSECRETxyz\r\nHost: x", "http://[xyzSECRETxyz/", 3,
     "javascript:xyzSECRETxyz", "https://host:xyzSECRETxyz/", "https://host/\u0430"],
)  # fmt: skip
def test_other_addresses_are_refused_without_a_word_of_their_path(url: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"url: expected an address such as https://example\.org/hook"
    ) as error:
        Webhook(url)
    assert "SECRET" not in str(error.value)


def test_wrong_kinds_and_times_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"kind: expected one of json, slack, discord; got 'slak'; did you"):
        Webhook("https://x", kind="slak")  # type: ignore[arg-type]
    for make in (Webhook, Command):
        to = "https://x" if make is Webhook else sys.executable
        for wrong in (0, -1.0, float("nan"), float("inf"), 1e9):  # the system's calls take no more
            wanted = f"timeout: expected a number of seconds above 0, 86,400 at most; got {wrong}"
            with pytest.raises(ConfigError, match=re.escape(wanted)):
                make(to, timeout=wrong)
        with pytest.raises(ConfigError, match="timeout: expected a number; got 'x'"):
            make(to, timeout="x")  # type: ignore[arg-type]
    for nothing in (5, None):
        with pytest.raises(
            ConfigError, match=f"command: expected a program and its arguments; got {nothing}"
        ):
            Command(nothing)  # type: ignore[arg-type]


def told(webhook: Webhook, caplog: pytest.LogCaptureFixture, times: int = 2) -> list[str]:
    delivery = Delivery([webhook])
    for _ in range(times):
        delivery.send(alert())
        assert delivery.finish(30)
    return [record.getMessage() for record in caplog.records if record.name == "gradscape"]


@pytest.mark.parametrize(("code", "attempts"), [(500, 3), (503, 3), (429, 3), (404, 1), (418, 1)])
def test_a_server_that_refuses_is_said_once_without_the_secret(
    server: Server, caplog: pytest.LogCaptureFixture, code: int, attempts: int
) -> None:
    server.codes = [code] * 10
    lines = told(Webhook(server.url), caplog)
    assert len(server.posted) == 2 * attempts
    (line,) = lines
    assert line.startswith(
        "on_finding Webhook('http://127.0.0.1/…', kind='json'): an alert was not delivered:"
    )
    assert f"http://127.0.0.1 answered {code} " in line


def test_a_server_that_is_busy_for_a_while_is_told_once(server: Server) -> None:
    server.codes = [503, 500]
    Webhook(server.url)(alert())
    assert len(server.posted) == 3


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server: Server, code: int) -> None:
    server.codes = [code]
    with pytest.raises(NotDelivered, match=f"http://127.0.0.1 answered {code} "):
        Webhook(server.url)(alert())
    assert len(server.posted) == 1


def test_nobody_there_is_said_in_one_line(caplog: pytest.LogCaptureFixture, server: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    (line,) = told(Webhook(f"http://127.0.0.1:{port}{SECRET}"), caplog)
    assert line.endswith("http://127.0.0.1 cannot be reached: [Errno 111] Connection refused")
    assert "SECRET" not in line


def test_a_server_that_talks_nonsense_is_said_without_the_secret(
    caplog: pytest.LogCaptureFixture, server: Server
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    line = connection.recv(65_536).split(b"\r\n")[0]
                    connection.sendall(b"NONSENSE " + line + b"\r\n\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        (line,) = told(Webhook(f"http://127.0.0.1:{listening.getsockname()[1]}{SECRET}"), caplog)
        thread.join()
    assert line.endswith("http://127.0.0.1 did not answer: BadStatusLine")


def test_a_server_that_hangs_is_left_after_its_time_and_not_told_twice(server: Server) -> None:
    server.hanging = True
    start = time.perf_counter()
    with pytest.raises(NotDelivered, match=r"http://127.0.0.1 did not answer within 0.1 s"):
        Webhook(server.url, timeout=0.1)(alert())
    assert time.perf_counter() - start < 10
    assert len(server.posted) == 1


def test_a_thousand_alerts_to_a_server_that_hangs_cost_no_time(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.hanging = True
    delivery = Delivery([Webhook(server.url, timeout=30)])
    start = time.perf_counter()
    for _ in range(1_000):
        delivery.send(alert())
    assert time.perf_counter() - start < 5
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.endswith(f"{WAITING} alerts are waiting for it, later ones are left out")
    server.hanging = False
    server.hangs.set()
    assert delivery.finish(60)
    assert WAITING <= len(server.posted) <= WAITING + 1


SCRIPT = """
import sys
from gradscape.integrations import Webhook
from gradscape.measure.watch.alert_delivery import Delivery
from gradscape.records.alert import Alert
from gradscape.records.diagnosis import Finding

Delivery([Webhook(sys.argv[1], timeout=60)]).send(Alert(Finding("exploding", "", "", "", ()), 1, 0.0))
assert "torch" not in sys.modules
"""


def test_what_is_on_its_way_at_the_end_of_the_process_arrives(server: Server) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT, server.url], check=True, timeout=120)
    assert len(server.posted) == 1


@pytest.mark.slow
def test_a_process_ends_even_if_a_receiver_hangs(server: Server) -> None:
    server.hanging = True
    subprocess.run([sys.executable, "-c", SCRIPT, server.url], check=True, timeout=60)


# Commands -----------------------------------------------------------------------------------------------

KEEP = """
import json, os, sys
found = {"arguments": sys.argv[2:], "alert": json.load(sys.stdin),
         "environment": {k: v for k, v in os.environ.items() if k.startswith("GRADSCAPE_")}}
open(sys.argv[1], "w").write(json.dumps(found))
"""


def test_a_command_has_the_alert_as_data(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    Command([sys.executable, "-c", KEEP, str(path), "{heading}", "{text}", "{step}", "{layer}", "a {step}"])(
        alert(HOSTILE)
    )
    found = json.loads(path.read_text())
    heading, text, step, *others = found["arguments"]
    assert heading == found["environment"]["GRADSCAPE_HEADING"] == found["alert"]["heading"]
    assert "$(touch x)" in heading
    assert "\n" not in heading
    assert text == "cause: a cause\nwhat would help: a remedy"
    assert step == found["environment"]["GRADSCAPE_STEP"] == "120"
    assert others == ["{layer}", "a {step}"]  # whole arguments alone are replaced
    assert found["environment"]["GRADSCAPE_VERDICT"] == "exploding"
    assert found["environment"]["GRADSCAPE_RUN"] == "run 7"
    assert found["environment"]["GRADSCAPE_GRADE"] == "fail"
    assert {path.name} == set(os.listdir(tmp_path))


def test_a_text_is_split_and_no_shell_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = Command("touch {heading} '; touch a' $(touch b) > c")
    assert command.arguments == ["touch", "{heading}", "; touch a", "$(touch", "b)", ">", "c"]
    Command("touch {grade} ';x' '$(y)'")(alert())
    assert set(os.listdir(tmp_path)) == {"fail", ";x", "$(y)"}


def test_a_layer_named_as_a_null_byte_or_long_is_no_error() -> None:
    Command([sys.executable, "-c", "", "{heading}"])(alert("a\0b" * 100_000, run="\0"))


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    code = f"sleep 60 & echo $! > {tmp_path / 'child'}; wait"
    start = time.perf_counter()
    with pytest.raises(NotDelivered, match=r"sh was killed after 0.5 s"):
        Command(["sh", "-c", code], timeout=0.5)(alert())
    assert time.perf_counter() - start < 20
    child = int((tmp_path / "child").read_text())
    end = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_command_that_fails_or_reads_nothing_is_no_harm() -> None:
    with pytest.raises(NotDelivered, match="false ended with 1"):
        Command("false")(alert())
    Command("true")(alert(cause="x" * 1_000_000))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-program-here -x", "command: there is no program no-such-program-here; give its path"),
        ("", "command: expected a program and its arguments; got ''"),
        ([], r"command: expected a program and its arguments; got \[\]"),
        (["true", 3], "command: expected a program and its arguments"),
        ("echo 'x", "command: No closing quotation"),
    ],
)
def test_wrong_commands_are_refused_before_the_training(command: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Command(command)
