"""Any command line, axis, study file: an exit code, one line, and nothing left behind; never a traceback."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradscape.cli.main import _COMMANDS, app, main
from gradscape.config.paths import FIELDS
from gradscape.config.run import RunConfig
from gradscape.config.serialize import read_config
from gradscape.errors import ConfigError
from gradscape.study.sweep.axes import Axis, axis_in, axis_of, condition_in
from gradscape.study.sweep.sweep import Sweep


def bounded(examples: int) -> settings:
    """The same examples at every run, and as many seconds on a busy machine as it takes."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


WORDS = (
    "", " ", "0", "1", "-1", "3", "8", "38", "1e-3", "0.5", "nan", "inf", "1e400", "9" * 400, "٣", "yes",
    "no", "default", "none", "batch", "digits", "cifar100", "quick", "batchnorm", "local", "cpu", "x", "~",
    "~/x", "..", "/", "/dev/null", "a.yaml", "f.png", "f.py:make", "no.such:thing", "=", ":", ",", "a=b=c",
    "optim.lr=1e-3,1e-2", "net.depth=range:8:38:6", "optim.lr=log:1e-4:1e-2:3", "net.depth=38",
    "batch_size=5,,10", "-x", "--", "---", "--no-such", "x\ny", "\x1b[31m", "\udcff", "ü" * 300,
)  # fmt: skip
# What would compute, fetch or wait is left out; what is added makes the rest end before anything is run.
LEFT_OUT = {"--download", "--dry-run", "--watch", "--follow", "--on"}
ENDS = {
    "train": ["--data.name", "cifar100", "--data-root", "nowhere"],
    "reproduce": ["--data", "cifar100", "--data-root", "nowhere"],
    "sweep": ["--save", "saved.yaml"],
    "live": ["--port", "-1"],
}
ARGUMENTS = {name: app[name].assemble_argument_collection() for name in _COMMANDS}
FLAGS = {
    name: sorted(
        {flag for each in app[name].assemble_argument_collection() for flag in each.names} - LEFT_OUT
    )
    for name in _COMMANDS
}
text = st.one_of(st.sampled_from(WORDS), st.text(st.characters(exclude_characters="\x00"), max_size=12))
fields = st.one_of(st.sampled_from(sorted(FIELDS)), text)


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    name = draw(st.sampled_from([*FLAGS, "", "trian", "--version", "--no-such"]))
    pieces = st.one_of(text, st.sampled_from(FLAGS.get(name, ["--help"])))
    flagged = st.tuples(pieces, text).map(list)
    middle = draw(st.lists(st.one_of(flagged, pieces.map(lambda piece: [piece])), max_size=5))
    return [name, *(word for piece in middle for word in piece), *ENDS.get(name, [])]


@bounded(120)
@given(command_lines())
def test_any_command_line_ends_in_a_code_and_one_line(arguments: list[str]) -> None:
    out, err = io.StringIO(), io.StringIO()
    with (
        tempfile.TemporaryDirectory() as place,
        contextlib.chdir(place),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(arguments)
        assert code in (0, 2)
        assert "Traceback" not in err.getvalue()
        if code:
            assert err.getvalue()[:-1].isprintable()
            assert err.getvalue().startswith("gradscape: ")
            assert err.getvalue().endswith("\n")
        left = {path.name for path in Path(place).iterdir()}
        assert left <= ({"saved.yaml"} if arguments[0] == "sweep" and not code else set())


def made(make: Callable[..., Any], *given: Any) -> Any:
    """What is made, or None where it is refused in one line of reasonable length."""
    try:
        return make(*given)
    except ConfigError as error:
        refusal = str(error)
    assert refusal.isprintable()
    assert len(refusal) < 2_000
    return None


@st.composite
def axis_texts(draw: st.DrawFn) -> str:
    number = st.one_of(st.floats().map(str), st.integers().map(str), text)
    spaced = st.lists(number, min_size=2, max_size=4).map(":".join)
    values = st.one_of(
        st.lists(st.one_of(number, st.sampled_from(["yes", "none", "batch", "relu"])), max_size=4).map(
            ",".join
        ),
        st.tuples(st.sampled_from(["log", "range", "lag"]), spaced).map(":".join),
    )
    return f"{draw(fields)}{draw(st.sampled_from(['=', '=', '=', '', ':']))}{draw(values)}"


@bounded(200)
@given(st.lists(axis_texts(), min_size=1, max_size=3))
def test_any_axis_is_one_or_one_line(texts: list[str]) -> None:
    if axis := made(axis_in, texts, "--axis"):
        assert isinstance(axis, Axis)
        assert 1 <= len(axis.rows) <= 1_000
        assert axis_of(axis.to_dict()).fields == axis.fields
    made(condition_in, texts, "--exclude")


leaf = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), text, st.dates(), st.binary(max_size=3),
    st.sampled_from([8, 0.01, "batch"]),
)  # fmt: skip
keys = st.one_of(
    st.sampled_from(
        [*FIELDS, *("name", "title", "base", "axes", "exclude", "seeds", "where", "net", "optim", "data")]
    ),
    text,
    st.integers(),
)
values = st.recursive(
    leaf,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)
studies = st.fixed_dictionaries(
    {"axes": st.lists(st.dictionaries(keys, values, max_size=2), max_size=2)},
    optional={"name": values, "base": values, "exclude": values, "seeds": values, "title": values},
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "a.yaml"


@bounded(150)
@given(st.one_of(values, studies))
def test_any_values_in_a_file_are_a_study_or_one_line(file: Path, given_values: Any) -> None:
    file.write_text(yaml.safe_dump(given_values), errors="surrogatepass")
    assert isinstance(made(Sweep.read, file), Sweep | None)
    assert isinstance(made(read_config, file), RunConfig | None)


VALID = """\
name: rates
base: {epochs: 6, data: {name: digits, train: 500}}
axes:
  - net.depth: [8, 20, 38]
  - {net.slope: [0.01, 0.2], where: {net.activation: leaky_relu}}
  - optim.lr: {log: [1e-4, 1e-2], points: 3}
exclude: [{net.depth: 38, optim.lr: 0.01}]
seeds: 3
"""


put = st.one_of(st.sampled_from(list("&*!:-{}[]'\"\t#|>%@`?,\n")), text)
slip = st.tuples(st.integers(0, len(VALID)), st.integers(0, 6), put)


@bounded(150)
@given(st.lists(slip, min_size=1, max_size=3))
def test_any_slip_in_a_study_file_is_one_line(file: Path, slips: list[tuple[int, int, str]]) -> None:
    content = VALID
    for place, cut, added in slips:
        content = content[:place] + added + content[place + cut :]
    file.write_bytes(content.encode("utf-8", "surrogatepass"))
    assert isinstance(made(Sweep.read, file), Sweep | None)
