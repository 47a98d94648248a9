"""Text as values: what is read, what is refused, and paths."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscape.config.text import display, nested, path, read


@given(st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans()))
def test_what_is_displayed_is_read(value: int | float | bool) -> None:
    assert read(type(value) | None, display(value)) == value


def test_the_choice_of_a_literal_is_left_to_the_configuration() -> None:
    assert read(Literal["batch", "none"], "bach") == "bach"


@pytest.mark.parametrize(
    ("hint", "text", "says"),
    [
        (int, "1.5", "expected a whole number; got '1.5'"),
        (float | None, "fast", "expected a number; got 'fast'"),
        (bool, "maybe", "expected yes or no; got 'maybe'"),
    ],
)
def test_other_text_is_refused(hint: type, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}$"):
        read(hint, text)


def test_dotted_names_are_nested() -> None:
    assert nested({"net.depth": 8, "epochs": 2, "net.norm": "none"}) == {
        "net": {"depth": 8, "norm": "none"},
        "epochs": 2,
    }


def test_the_users_folder_is_written_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path("~/runs") == tmp_path / "runs"
    assert path("a~b") == Path("a~b")
    with pytest.raises(ValueError, match="got ~nobody-of-this-name/x: Could not determine home"):
        path("~nobody-of-this-name/x")
