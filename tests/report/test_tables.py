import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscape.report.tables import Table, bracketed, to_csv, to_latex, to_markdown

TABLE = Table(
    "odd",
    "Table 0. 50 % & more_",
    "A \\ caption ± 1.",
    ("name", "a|b", "x_1"),
    (("lr, 1e-3", "0.479(4) ± 0.012", "<b>"), ('say "no"', "−1", "{~^#$}")),
    words=("name",),
)


def test_csv() -> None:
    assert to_csv(TABLE) == ('name,a|b,x_1\n"lr, 1e-3",0.479(4) ± 0.012,<b>\n"say ""no""",−1,{~^#$}\n')


def test_markdown() -> None:
    assert to_markdown(TABLE) == (
        "**Table 0. 50 % & more\\_**\n\n"
        "| name | a\\|b | x\\_1 |\n"
        "| :--- | ---: | ---: |\n"
        "| lr, 1e-3 | 0.479(4) ± 0.012 | \\<b\\> |\n"
        '| say "no" | −1 | {~^#$} |\n\n'
        "A \\\\ caption ± 1.\n"
    )


def test_latex() -> None:
    assert to_latex(TABLE) == (
        "\\begin{table}\n"
        "\\centering\n"
        "\\caption{Table 0. 50 \\% \\& more\\_ A \\textbackslash{} caption \\ensuremath{\\pm} 1.}\n"
        "\\label{tab:odd}\n"
        "\\begin{tabular}{lrr}\n"
        "\\toprule\n"
        "name & a|b & x\\_1 \\\\\n"
        "\\midrule\n"
        "lr, 1e-3 & 0.479(4) \\ensuremath{\\pm} 0.012 & <b> \\\\\n"
        'say "no" & \\ensuremath{-}1 & \\{\\textasciitilde{}\\textasciicircum{}\\#\\$\\} \\\\\n'
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\end{table}\n"
    )


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0")), min_size=1))
def test_csv_reads_back(cells: list[str]) -> None:
    row = ("first", *cells)
    table = Table("t", "", "", row, (row,))
    assert list(csv.reader(io.StringIO(to_csv(table)))) == [list(row), list(row)]


@given(st.text())
def test_markdown_and_latex_cells_cannot_end_their_cell(text: str) -> None:
    table = Table("t", "", "", ("a",), ((text,),))
    assert not re.search(r"(?<!\\)(\\\\)*\|", to_markdown(table).splitlines()[2][2:-2])
    cell = to_latex(table).split("\\midrule\n")[1].split(" \\\\\n\\bottomrule")[0]
    assert not re.search(r"(?<!\\)[&%$#_]", cell)


def test_a_ragged_table_is_refused() -> None:
    with pytest.raises(AssertionError, match="t: columns and rows differ in length"):
        Table("t", "", "", ("a", "b"), (("1",),))


def test_words_in_a_column_that_is_not_there_are_refused() -> None:
    with pytest.raises(AssertionError, match="t: no such columns"):
        Table("t", "", "", ("a",), (("1",),), words=("c",))


@pytest.mark.parametrize(
    ("mean", "deviation", "text"),
    [
        (0.479, 0.004, "0.479(4)"),
        (0.4786, 0.0039, "0.479(4)"),
        (1.815, 0.0, "1.815(1)"),
        (1.815, 0.00149, "1.815(1)"),
        (1.815, 0.0016, "1.815(2)"),
        (2.0, 0.0004, "2.000(1)"),
        (0.479, 0.0123, "0.479(12)"),
        (4.605, 1.5, "4.605(1500)"),
        (0.5, 0.0625, "0.500(63)"),  # 62.5, exactly half: up
        (0.5, None, "0.500"),
        (float("nan"), float("nan"), "nan"),
        (float("inf"), None, "inf"),
    ],
)
def test_notation(mean: float, deviation: float | None, text: str) -> None:
    assert bracketed(mean, deviation) == text


@given(st.floats(-100, 100), st.floats(0, 10))
def test_notation_reads_back_within_half_a_digit(mean: float, deviation: float) -> None:
    match = re.fullmatch(r"(-?\d+\.\d{3})\(([1-9]\d*)\)", bracketed(mean, deviation))
    assert match
    assert abs(float(match[1]) - mean) <= 0.0005 + 1e-12
    assert abs(int(match[2]) / 1000 - max(deviation, 0.001)) <= 0.0005 + 1e-12
