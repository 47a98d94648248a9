"""Receivers of alerts: a webhook of Slack, Discord or anybody, and a command.

    >>> told = [print, Webhook("https://hooks.slack.com/services/T0/B0/secret")]
    >>> flow = gs.watch(model, optimizer, on_finding=told)

Any function of an `Alert` is a receiver too. Nothing is sent anywhere unless a receiver is given. Names of
layers and runs come from outside: to the services they are plain text, never markup, mentions or links, and
to a command data, never part of a shell's line.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from gradscape._codec import encode
from gradscape.config.arguments import fitted
from gradscape.errors import ConfigError, NotDelivered, brief, cut, nearest, one_line
from gradscape.records.alert import Alert
from gradscape.version import __version__

__all__ = ["Alert", "Command", "Webhook"]

Kind = Literal["json", "slack", "discord"]
HOSTS = {"slack.com": "slack", "discord.com": "discord", "discordapp.com": "discord"}
MOST = 800  # characters of a message: twice as many with all escapes, and Discord takes 2,000
MOST_FIELD = 1_000  # characters of each text in JSON
PAUSES = (1.0, 3.0)  # seconds before a second and a third attempt, where a server is busy or out of reach
LONGEST = 86_400.0  # seconds; the system's calls take no time without an end
BUSY = (429, 500, 502, 503, 504)
UNBROKEN = "@\u200b"  # a mention needs its name right behind the @
DISCORDS = frozenset("\\*_~`|>#[]()<:-+.")  # begin or end something in its Markdown


class Webhook:
    """Address that each alert is posted to, as JSON.

    It is a receiver for `on_finding` that a training does not wait for. What is sent: to `slack` a text, to
    `discord` a text in which nothing is markup and nobody is mentioned, and as `json` all of
    `Alert.to_dict()`, with `"source": "gradscape"`. A server that is busy or out of reach is tried three
    times. Redirects are not followed, and the path of the address, which is a secret of such services, is
    never shown.

    Args:
        url: Address, of http or https.
        kind: Form of the message; by default found from the host's name, else `json`.
        timeout: Number of seconds without an answer after which an attempt ends.

    Raises:
        ConfigError: The address or the kind is none, or the time is not above 0 or more than a day.

    Example:
        >>> hook = Webhook("https://hooks.slack.com/services/T0/B0/secret")
        >>> flow = gs.watch(model, optimizer, on_finding=hook)
    """

    is_slow = True

    def __init__(self, url: str, kind: Kind | None = None, timeout: float = 5.0) -> None:
        parts = _parts_of(url)
        form = _kind_of(parts.hostname or "") if kind is None else kind
        if form not in PAYLOADS:
            raise ConfigError(
                f"kind: expected one of {', '.join(PAYLOADS)}; got {brief(kind)}{nearest(kind, PAYLOADS)}"
            )
        self.kind, self.timeout = form, _seconds(timeout)
        self._url, self._place = url, f"{parts.scheme}://{parts.hostname}"

    def __call__(self, alert: Alert) -> None:
        """Post an alert.

        Args:
            alert: Alert to post.

        Raises:
            NotDelivered: The server cannot be reached, or refuses it.
        """
        body = json.dumps(PAYLOADS[self.kind](alert)).encode()
        headers = {"Content-Type": "application/json", "User-Agent": f"gradscape/{__version__}"}
        for pause in (*PAUSES, None):
            reason, is_passing = self._post(urllib.request.Request(self._url, body, headers))
            if not reason:
                return
            if pause is None or not is_passing:
                raise NotDelivered(f"{self._place} {reason}")
            time.sleep(pause)

    def _post(self, request: urllib.request.Request) -> tuple[str, bool]:
        """Return why a request failed, empty if it did not, and whether it may not fail the next time."""
        try:
            with _opener().open(request, timeout=self.timeout):
                return "", False
        except urllib.error.HTTPError as error:
            error.close()
            return f"answered {error.code} {cut(one_line(error.reason), 60)}", error.code in BUSY
        except TimeoutError:  # it may have been taken: a second attempt would tell it twice
            return f"did not answer within {self.timeout:g} s", False
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                return f"cannot be reached within {self.timeout:g} s", True
            return f"cannot be reached: {cut(one_line(error.reason), 100)}", True
        except Exception as error:  # of http.client; its text may quote the address
            return f"did not answer: {type(error).__name__}", False

    def __repr__(self) -> str:
        return f"Webhook('{self._place}/…', kind={self.kind!r})"


class Command:
    """Command that is run for each alert, without a shell.

    It is a receiver for `on_finding` that a training does not wait for. The command has the alert as JSON
    (`Alert.to_dict()`) on its standard input, and in the environment variables `GRADSCAPE_VERDICT`,
    `GRADSCAPE_LAYER`, `GRADSCAPE_GRADE`, `GRADSCAPE_HEADING`, `GRADSCAPE_TEXT`, `GRADSCAPE_STEP` and
    `GRADSCAPE_RUN`. An argument that is `{heading}`, `{text}`, `{grade}` or `{step}` and nothing else is
    replaced; the text stays one argument, whatever it holds. What the command prints is dropped.

    Args:
        command: Program and arguments; a text is split as a shell would, but no shell reads it.
        timeout: Number of seconds after which the command and what it has started are killed.

    Raises:
        ConfigError: There is no such program, or the time is not above 0 or more than a day.

    Example:
        >>> log = Command(["sh", "-c", 'echo "$GRADSCAPE_HEADING" >> found.txt'])
        >>> flow = gs.watch(model, optimizer, on_finding=log)
    """

    is_slow = True

    def __init__(self, command: str | Sequence[str], timeout: float = 10.0) -> None:
        self.arguments = _arguments_of(command)
        self.timeout = _seconds(timeout)
        if shutil.which(self.arguments[0]) is None:
            raise ConfigError(f"command: there is no program {cut(self.arguments[0])}; give its path")

    def __call__(self, alert: Alert) -> None:
        """Run the command.

        Args:
            alert: Alert to hand to it.

        Raises:
            NotDelivered: It cannot be run, takes too long, or ends with another code than 0.
        """
        texts = {name: _bounded(value) for name, value in _texts_of(alert).items()}
        arguments = [
            texts[each[1:-1]] if each in ("{heading}", "{text}", "{grade}", "{step}") else each
            for each in self.arguments
        ]
        environment = os.environ | {f"GRADSCAPE_{name.upper()}": value for name, value in texts.items()}
        try:
            code = _run(arguments, json.dumps(_plain(alert)).encode(), environment, self.timeout)
        except OSError as error:
            raise NotDelivered(f"{self.arguments[0]} cannot be run: {error.strerror}") from None
        if code is None:
            raise NotDelivered(f"{self.arguments[0]} was killed after {self.timeout:g} s")
        if code:
            raise NotDelivered(f"{self.arguments[0]} ended with {code}")

    def __repr__(self) -> str:
        return f"Command({cut(self.arguments[0])!r})"


def slack_payload(alert: Alert) -> dict[str, Any]:
    """Return the message for Slack: a text with markup off, and what begins a mention or a link escaped.

    Source: https://docs.slack.dev/messaging/formatting-message-text, "Escaping text".

    Args:
        alert: Alert to tell.
    """
    text = _message(alert).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    off = {"mrkdwn": False, "parse": "none", "link_names": False, "unfurl_links": False}
    return {"text": text.replace("@", UNBROKEN), **off, "unfurl_media": False}


def discord_payload(alert: Alert) -> dict[str, Any]:
    """Return the message for Discord: a text whose Markdown is escaped, and that may mention nobody.

    Source: https://docs.discord.com/developers/resources/message, "Allowed Mentions Object".

    Args:
        alert: Alert to tell.
    """
    text = "".join(f"\\{letter}" if letter in DISCORDS else letter for letter in _message(alert))
    suppress_embeds = 1 << 2
    return {
        "content": text.replace("@", UNBROKEN),
        "allowed_mentions": {"parse": []},
        "flags": suppress_embeds,
    }


def json_payload(alert: Alert) -> dict[str, Any]:
    """Return all of an alert as plain values, each text bounded.

    Args:
        alert: Alert to tell.
    """
    return {"source": "gradscape", **_plain(alert)}


PAYLOADS: dict[str, Callable[[Alert], dict[str, Any]]] = {
    "json": json_payload,
    "slack": slack_payload,
    "discord": discord_payload,
}


def _plain(alert: Alert) -> dict[str, Any]:
    plain: dict[str, Any] = _shortened(encode(alert, derived=True))
    return plain


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return _bounded(value)
    if isinstance(value, Mapping):
        return {key: _shortened(each) for key, each in value.items()}
    return [_shortened(each) for each in value] if isinstance(value, list) else value


def _bounded(text: str, most: int = MOST_FIELD) -> str:
    """Return a text without control characters but line ends, cut where it is long."""
    text = "\n".join(one_line(line) for line in text.splitlines())
    return text if len(text) <= most else text[: most - 1] + "…"


def _message(alert: Alert) -> str:
    """Return what a person reads: grade, step and run, verdict and place; cause; what would help."""
    run = f" of {cut(one_line(alert.run))}" if alert.run else ""
    head = f"{alert.grade} at step {alert.step}{run}: {cut(alert.heading, 200)}"
    return _bounded(f"{head}\n{alert.text}", MOST)


def _texts_of(alert: Alert) -> dict[str, str]:
    names = ("verdict", "layer", "grade", "heading", "text", "step", "run")
    return {name: str(getattr(alert, name)) for name in names}


def _seconds(timeout: float) -> float:
    """Return a time that can be waited for."""
    seconds = float(fitted(timeout, float, "timeout"))
    if not 0 < seconds <= LONGEST:
        allowed = f"a number of seconds above 0, {LONGEST:,.0f} at most"
        raise ConfigError(f"timeout: expected {allowed}; got {brief(timeout)}")
    return seconds


def _parts_of(url: str) -> SplitResult:
    """Return the parts of an address; the message of an error does not show its path."""
    wanted = "url: expected an address such as https://example.org/hook"
    if not isinstance(url, str) or not url.isprintable() or not url.isascii() or " " in url:
        raise ConfigError(f"{wanted}, of plain characters; got something else")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises where it is none
    except ValueError:
        raise ConfigError(f"{wanted}; got one that cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{wanted}; got the scheme {brief(parts.scheme)}; only http and https are allowed")
    if "@" in parts.netloc:
        raise ConfigError(f"{wanted}; got one with a user's name or password, which are not sent")
    return parts


def _kind_of(host: str) -> str:
    """Return the kind of a host: a service's own, or one within it."""
    for service, kind in HOSTS.items():
        if host == service or host.endswith(f".{service}"):
            return kind
    return "json"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer that refuses: urllib would follow it without the alert."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirect)


def _arguments_of(command: str | Sequence[str]) -> list[str]:
    try:
        arguments = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise ConfigError(f"command: {error}; got {brief(command)}") from None
    except TypeError:  # not even a list
        arguments = []
    if not arguments or not all(isinstance(each, str) and "\0" not in each for each in arguments):
        raise ConfigError(
            f"command: expected a program and its arguments; got {brief(command)}; type "
            "Command(['notify-send', '{heading}'])"
        )
    return arguments


def _run(arguments: list[str], given: bytes, environment: Mapping[str, str], seconds: float) -> int | None:
    """Run a command in a session of its own; return its code, None if it was killed for its time."""
    process = subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        process.communicate(given, timeout=seconds)
        return process.returncode
    except subprocess.TimeoutExpired:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None
