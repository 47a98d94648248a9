"""Server of the live page: the page, the documents of trainings, and news as they are written.

It only reads. It answers on this machine alone, unless another address is given: then whoever asks needs a
token. Nothing is served by a path: a training is asked for by the name that the page has of it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from gradscape.errors import GradscapeError, first_line, one_line
from gradscape.live.hub import Hub, News, StillReadingError
from gradscape.live.listen import HOME
from gradscape.report.interactive.page import live_page

PAUSE, LONGEST = 0.1, 2.0  # seconds from one look at the folder to the next
SHARE = 0.1  # of a core, for looking
LOOK = SHARE * PAUSE  # seconds of a look for trainings that are not at work
READ = 0.1  # the same, as long as some of the trainings have not been read yet
ALIVE = 15.0  # seconds after which a silent connection gets a comment, which shows that it still stands
WAITING = 100  # news that a slow browser may be behind by; then it is sent everything anew
log = logging.getLogger("gradscape")


@dataclass
class Listeners:
    """Browsers that are told of changes.

    Attributes:
        queues: Queue of each.
        loop: Loop that they are served by; None before it runs.
    """

    queues: set[asyncio.Queue[News]] = field(default_factory=set)
    loop: asyncio.AbstractEventLoop | None = None

    def tell(self, news: News) -> None:
        """Tell all browsers, from any thread.

        Args:
            news: Plain values.
        """
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._put, news)

    def end(self) -> None:
        """End the streams of all browsers, from any thread: they look for the server again by themselves."""
        self.tell({"end": True})

    def _put(self, news: News) -> None:
        for queue in self.queues:
            if queue.full():
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait({"everything": True})
            else:
                queue.put_nowait(news)


def application(hub: Hub, listeners: Listeners, token: str = "", hosts: tuple[str, ...] = HOME) -> Starlette:
    """Return the server's application.

    Args:
        hub: State of the page; its `tell` is `listeners.tell`.
        listeners: Browsers to tell.
        token: Word that every request must give as `?token=`; empty for none.
        hosts: Names by which the server may be asked for, so that no other site's name leads here.
    """

    def refused(request: Request) -> Response | None:
        given = request.query_params.get("token", "")
        if token and not secrets.compare_digest(given.encode(), token.encode()):
            return PlainTextResponse("open the address that gradscape live printed: it ends in a token", 403)
        return None

    async def page(request: Request) -> Response:
        if (refusal := refused(request)) is not None:
            return refusal
        nonce = secrets.token_urlsafe(16)
        rows, events, claims = list(hub.rows.values()), list(hub.events), list(hub.claims)
        values = {"events": events, "claims": claims, "unread": hub.unread, "notes": hub.notes}
        text = await run_in_threadpool(live_page, hub.title, rows, nonce, **values)
        return HTMLResponse(text, headers=_headers(nonce))

    async def answer(request: Request, document: Callable[..., News], *names: str) -> Response:
        if (refusal := refused(request)) is not None:
            return refusal
        try:
            found = await run_in_threadpool(document, *names)
        except GradscapeError as error:
            return _as_json({"error": str(error), "reading": isinstance(error, StillReadingError)}, 404)
        except Exception as error:  # of any kind, as in `Hub.poll`: the page shows a sentence, not a status
            log.exception("the live page cannot show a training")
            return _as_json({"error": one_line(first_line(error))}, 500)
        return _as_json(found)

    async def training(request: Request) -> Response:
        return await answer(request, hub.document, request.query_params.get("id", ""))

    async def comparison(request: Request) -> Response:
        a, b = (request.query_params.get(name, "") for name in ("a", "b"))
        return await answer(request, hub.comparison, a, b)

    async def events(request: Request) -> Response:
        if (refusal := refused(request)) is not None:
            return refusal
        return StreamingResponse(
            _stream(hub, listeners), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    @asynccontextmanager
    async def following(_: Starlette) -> AsyncIterator[None]:
        listeners.loop = asyncio.get_running_loop()
        stop = threading.Event()
        for name, work in (("gradscape-live", _follow), ("gradscape-claims", _judge)):
            threading.Thread(target=work, args=(hub, stop), name=name, daemon=True).start()
        yield
        stop.set()

    return Starlette(
        routes=[
            Route("/", page),
            Route("/api/training", training),
            Route("/api/comparison", comparison),
            Route("/events", events),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)),
            Middleware(GZipMiddleware, minimum_size=2_000, compresslevel=3),
        ],
        lifespan=following,
    )


def _follow(hub: Hub, stop: threading.Event) -> None:
    """Read the folder again and again, on a thread of its own: a large one takes its time."""
    pause = 0.0
    while not stop.wait(pause):
        began, reads = time.monotonic(), hub.unread > 0
        _unharmed(partial(hub.poll, READ if reads else LOOK))
        took = time.monotonic() - began
        pause = 0.01 if reads else min(LONGEST, max(PAUSE, took / SHARE))


def _judge(hub: Hub, stop: threading.Event) -> None:
    """Judge claims again and again, on a thread of its own."""
    while not stop.wait(1.0):
        _unharmed(hub.judge)


def _unharmed(work: Callable[[], None]) -> None:
    """Do something whose error of any kind must not end the thread: the page would stand still."""
    try:
        work()
    except Exception:
        log.exception("the live page goes on after an error")


async def _stream(hub: Hub, listeners: Listeners) -> AsyncIterator[bytes]:
    """Yield news as server-sent events, first of all everything as it is now."""
    queue: asyncio.Queue[News] = asyncio.Queue(WAITING)
    listeners.queues.add(queue)
    try:
        yield _message(_everything(hub))
        while True:
            try:
                news = await asyncio.wait_for(queue.get(), ALIVE)
            except TimeoutError:
                yield b": alive\n\n"
                continue
            if "end" in news:
                return
            yield _message(_everything(hub) if "everything" in news else news)
    finally:
        listeners.queues.discard(queue)


def _everything(hub: Hub) -> News:
    return {
        "runs_all": list(hub.rows.values()),
        "events": list(hub.events),
        "claims": hub.claims,
        "title": hub.title,
        "unread": hub.unread,
        "notes": hub.notes,
    }


def _message(news: Mapping[str, Any]) -> bytes:
    return b"data: " + _json(news) + b"\n\n"


def _as_json(values: Mapping[str, Any], status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(_json(values), status, headers, media_type="application/json")


def _json(values: Mapping[str, Any]) -> bytes:
    """Return plain values as JSON; what UTF-8 does not have, such as half a surrogate pair, becomes a ?."""
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _headers(nonce: str) -> dict[str, str]:
    """Return headers by which the page may load nothing from elsewhere and run no other script."""
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
