"""Command that checks a network before it is trained."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from gradscape._text import strip_controls
from gradscape.cli.app import FLAT
from gradscape.cli.files import require_folder
from gradscape.cli.noise_batch import NoiseBatch
from gradscape.cli.output import Form, print_text, prints_aside, save_page, save_text
from gradscape.config.fields import option
from gradscape.config.options import FilePath
from gradscape.errors import ConfigError

if TYPE_CHECKING:
    from gradscape.records.check import CheckRecord


NOISE = "3,32,32"  # shape of a sample of noise by default


@dataclass(frozen=True, kw_only=True)
class CheckOptions(NoiseBatch, Form):
    """Extent of the check of a network on a batch of noise, and form of the result."""

    input: str = option(NOISE, "shape of a sample of noise; for tokens, give --batch")
    batch: str | None = option(None, "function of FILE.py that returns (x, y), in place of noise")
    loss: str | None = option(
        None, "with --batch: mse_loss or another of torch.nn.functional, or a function of FILE.py"
    )
    optimizer: Literal["adam", "adamw", "sgd"] = option("adam", "optimizer of the steps")
    lr: float | None = option(None, "its learning rate (default: that of its class)", 0, 1e9)
    momentum: float | None = option(None, "momentum of sgd (default: none)", 0, 1)
    seeds: int = option(3, "number of seeds of the signal", 1, 1_000)
    confirm: int = option(0, "number of real steps that remedies are ranked by", 0, 100_000)
    remedies: Annotated[bool, Parameter(negative="--no-remedies")] = option(
        True, "try remedies, or give the verdict alone"
    )
    fit: int | None = option(None, "number of steps to fit the batch in, 0 for none", 0, 100_000)
    causal: Annotated[bool, Parameter(negative=())] = option(
        False, "a position's output, of (N, T, classes), must not depend on later input"
    )
    format: Literal["text", "json", "markdown", "junit", "sarif"] = option(
        "text", "form of the result; junit and sarif are for CI"
    )
    out: FilePath | None = option(None, "file for the result; the text is printed all the same")
    page: FilePath | None = option(None, "file for an HTML page with figures")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.chosen(self.format)
        if self.momentum is not None and self.optimizer != "sgd":
            raise ConfigError(f"--momentum: expected with --optimizer sgd alone; got {self.optimizer}")
        if self.loss is not None and self.batch is None:
            raise ConfigError("--loss: expected with --batch alone: noise has random labels")
        if self.batch is not None and self.input != NOISE:
            raise ConfigError(
                f"--input: expected without --batch, which has samples of its own; got {self.input}"
            )
        require_folder("--page", self.page, ".html")
        require_folder("--out", self.out)


def check(
    factory: Annotated[str, Parameter(name="FACTORY", help="FILE.py:FACTORY or package.module:FACTORY")],
    /,
    *,
    options: Annotated[CheckOptions, FLAT] = CheckOptions(),
) -> int:
    """Diagnose a factory's network before it is trained, on a batch of noise or one of the user's.

    Args:
        factory: FILE.py:FACTORY, or package.module:FACTORY.
        options: Batch and extent of the check, and form of the result.

    Returns:
        1 if a fault of grade fail is found, else 0.

    Raises:
        ConfigError: The factory cannot be read, or makes no classifier of such samples.
    """
    from gradscape.cli.import_object import place_of
    from gradscape.cli.own_batch import check_of
    from gradscape.cli.phases import PhaseView

    began = time.perf_counter()
    with prints_aside(), PhaseView() as view:
        made, checked = check_of(factory, options.batch, options.loss, options.shape)
        record = checked(
            optimizer=_optimizer_of(options),
            seeds=options.seeds,
            confirm=options.confirm,
            remedies=options.remedies,
            fit=options.fit,
            causal=options.causal,
            report=view.show,
        )
    form, seconds = options.chosen(options.format), time.perf_counter() - began
    text = _in_form(record, form, factory, place_of(factory, made), seconds)
    save_page(record, options.page)
    if options.out:
        save_text("--out", options.out, text)
    print_text(_in_form(record, "text", factory, None, seconds) if options.out else text)
    return int(record.diagnosis.grade == "fail")


def _optimizer_of(options: CheckOptions) -> Callable[..., Any]:
    """Return what makes the optimizer of a model's parameters."""
    from gradscape.measure.core.copied_optimizer import OPTIMIZERS

    settings = {"lr": options.lr, "momentum": options.momentum}
    given = {name: value for name, value in settings.items() if value is not None}
    kind: Callable[..., Any] = OPTIMIZERS[options.optimizer]
    return partial(kind, **given) if given else kind


def _in_form(
    record: CheckRecord, form: str, factory: str, place: tuple[Path, int] | None, seconds: float
) -> str:
    """Return the result in a form."""
    from gradscape.report.junit import junit_xml
    from gradscape.report.markdown import to_markdown
    from gradscape.report.sarif import sarif_json

    match form:
        case "json":
            return record.to_json()
        case "markdown":
            return to_markdown(record)
        case "junit":
            return junit_xml(record, factory, seconds)
        case "sarif":
            return sarif_json(record, place)
    return strip_controls(record.verdict_last())
