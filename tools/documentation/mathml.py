"""Formulas as MathML, which browsers show by themselves: no script, no font and no network is needed."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def visit_inline(translator: Any, node: nodes.math) -> None:
    """Write a formula within a line.

    Args:
        translator: Sphinx's writer of HTML.
        node: The formula, in LaTeX.
    """
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """Write a formula on lines of its own.

    Args:
        translator: Sphinx's writer of HTML.
        node: The formula, in LaTeX.
    """
    formula = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode
