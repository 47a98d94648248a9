"""Command that serves the page of a folder while trainings are written there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from gradscape.cli.app import FLAT
from gradscape.cli.files import folder_of
from gradscape.config.fields import option
from gradscape.config.options import Options
from gradscape.errors import ConfigError
from gradscape.live.listen import listening, refuse_without_libraries

if TYPE_CHECKING:
    from gradscape.measure.watch.alert_delivery import Delivery

ADDRESS = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://")  # begins one; a command may have one further on


@dataclass(frozen=True, kw_only=True)
class LiveOptions(Options):
    """Address of the page."""

    port: int = option(8765, "port; if it is taken, the next free one", 0, 65_535)
    host: str = option(
        "127.0.0.1", "address to listen on; on another than this machine's a token is asked for"
    )
    alert: tuple[str, ...] = option(
        (), "address of a webhook, or a command, to tell of faults, failures and deaths; repeatable"
    )
    end_with_input: bool = option(False, "end when standard input ends")


def live(
    folder: Annotated[str, Parameter(name="DIR", help="folder of studies, runs or watches, or of several")],
    /,
    *,
    options: Annotated[LiveOptions, FLAT] = LiveOptions(),
) -> None:
    """Show trainings in a browser while they are written, until Ctrl-C.

    Args:
        folder: Path of a folder.
        options: Address of the page.

    Raises:
        ConfigError: There is no such folder, or the extra `live` is not installed.
    """
    root = folder_of(folder)
    if not root.is_dir():
        raise ConfigError(
            f"DIR: expected a folder with studies, runs or watches; got {folder}, which is none"
        )
    refuse_without_libraries("the live page needs")
    alerts = _delivery(options.alert) if options.alert else None
    with listening(options.host, options.port, _say) as door:
        from gradscape.live.serve import serve  # after the address, for it takes a second

        serve(root, door, alerts, options.end_with_input)


def _delivery(receivers: Sequence[str]) -> Delivery:
    """Return the delivery of alerts to addresses and commands.

    Raises:
        ConfigError: An address or a command cannot be used.
    """
    from gradscape.integrations.alerts import Command, Webhook
    from gradscape.measure.watch.alert_delivery import Delivery

    return Delivery([Webhook(each) if ADDRESS.match(each) else Command(each) for each in receivers])


def _say(line: str) -> None:
    print(line, flush=True)
