"""Tables: rows of text, written as CSV, Markdown and LaTeX; and the paper's notation for a mean."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

Alignment = Literal["left", "right"]
DECIMALS = 3  # the paper's

LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"\ensuremath{\pm}",
    "≥": r"\ensuremath{\ge}",
    "×": r"\ensuremath{\times}",
    "·": r"\ensuremath{\cdot}",
    "∂": r"\ensuremath{\partial}",
    "β": r"\ensuremath{\beta}",
    "θ": r"\ensuremath{\theta}",
    "λ": r"\ensuremath{\lambda}",
    "ρ": r"\ensuremath{\rho}",
    "Δ": r"\ensuremath{\Delta}",
    "Σ": r"\ensuremath{\Sigma}",
    "∝": r"\ensuremath{\propto}",
    "√": r"\ensuremath{\surd}",
    "‖": r"\ensuremath{\Vert}",
    "²": r"\ensuremath{^2}",
    "∞": r"\ensuremath{\infty}",
    "−": r"\ensuremath{-}",
    "–": "--",
    "…": r"\dots{}",
}
MARKDOWN = re.compile(r"([\\|`*_<>\[\]])")


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        name: File name without ending.
        title: Title, such as `Table 1. Learning rates`.
        caption: Description of the numbers.
        columns: Headings.
        rows: One text per column each.
        words: Headings of the columns that hold words, set left; the others hold numbers, set right.
    """

    name: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        widths = {len(self.columns), *map(len, self.rows)}
        assert len(widths) == 1, f"{self.name}: columns and rows differ in length: {widths}"
        assert set(self.words) <= set(self.columns), f"{self.name}: no such columns: {self.words}"

    @property
    def alignment(self) -> tuple[Alignment, ...]:
        """Side per column: words stand left, numbers right."""
        return tuple("left" if column in self.words else "right" for column in self.columns)


def to_csv(table: Table) -> str:
    r"""Return headings and rows as RFC 4180 CSV with bare newlines.

    Args:
        table: Table to write.

    Example:
        >>> to_csv(Table("t", "", "", ("a", "b"), (("1", "x, y"),)))
        'a,b\n1,"x, y"\n'
    """
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([table.columns, *table.rows])
    return out.getvalue()


def to_markdown(table: Table) -> str:
    r"""Return a pipe table under its title, the caption below.

    Args:
        table: Table to write.

    Example:
        >>> print(to_markdown(Table("t", "T", "", ("a",), (("x|y",),))).splitlines()[-1])
        | x\|y |
    """
    rules = ["---:" if side == "right" else ":---" for side in table.alignment]
    lines = [table.columns, rules, *table.rows]
    body = [_markdown_row(line, escape=line is not rules) for line in lines]
    parts = [f"**{_escape_markdown(table.title)}**", "\n".join(body), _escape_markdown(table.caption)]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_latex(table: Table) -> str:
    r"""Return a `table` environment with booktabs rules (needs `\usepackage{booktabs}`).

    Args:
        table: Table to write.

    Example:
        >>> r"50\% \\" in to_latex(Table("t", "", "", ("a",), (("50%",),)))
        True
    """
    columns = "".join(side[0] for side in table.alignment)
    rows = [" & ".join(map(_escape_latex, row)) + r" \\" for row in (table.columns, *table.rows)]
    caption = " ".join(part for part in (table.title, table.caption) if part)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escape_latex(caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rows[0],
        r"\midrule",
        *rows[1:],
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def bracketed(mean: float, deviation: float | None) -> str:
    """Return a mean in the paper's notation: 0.479(4) is 0.479 with a standard deviation of 0.004.

    Three decimals. The bracket counts units of the last one, rounded half up but never below 1, so a
    spread is never shown as none; above 9 it has more digits: 0.479(12) is 0.479 ± 0.012. Without a
    deviation (a single epoch) there is no bracket, and what is not finite is named.

    Args:
        mean: Mean.
        deviation: Standard deviation; None for a single epoch.

    Example:
        >>> bracketed(0.4791, 0.0038), bracketed(1.815, 0.00001), bracketed(0.5, None)
        ('0.479(4)', '1.815(1)', '0.500')
    """
    text = f"{mean:.{DECIMALS}f}"
    if deviation is None or not Decimal(deviation).is_finite():
        return text
    units = Decimal(deviation).scaleb(DECIMALS).quantize(Decimal(1), ROUND_HALF_UP)
    return f"{text}({max(int(units), 1)})"


def _markdown_row(cells: Sequence[str], escape: bool) -> str:
    return f"| {' | '.join(_escape_markdown(c) if escape else c for c in cells)} |"


def _escape_markdown(text: str) -> str:
    return MARKDOWN.sub(r"\\\1", text).replace("\n", " ")


def _escape_latex(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text)
