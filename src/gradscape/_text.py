"""Numbers in sentences, and texts of others in ours."""

import re
from collections.abc import Sequence

# What a terminal obeys rather than shows, and what turns the direction of a line.
COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
UNSEEN = "\u200b"  # has no width


def count_noun(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as `1 layer` or `2 layers`.

    Args:
        number: Number of things.
        noun: Name of one of them.
        plural: Name of several (default: the noun and an s).

    Example:
        >>> count_noun(2, "batch", "batches")
        '2 batches'
    """
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def join_names(names: Sequence[str], most: int = 4) -> str:
    """Join names as in `a, b and 3 more`.

    Args:
        names: Names of parameters or modules.
        most: Number of names to write out.

    Example:
        >>> join_names(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def apart(value: float, others: Sequence[float] = (), digits: int = 3) -> str:
    """Return a number in as few digits as tell it from each number beside it that it does not equal.

    Args:
        value: Number to write.
        others: Numbers that stand beside it, such as limits.
        digits: Significant digits, at least.

    Example:
        >>> apart(-3.996, [-4.0, -1.0])
        '-3.996'
    """
    for more in range(digits, 17):
        text = f"{value:.{more}g}"
        if all(text != f"{other:.{more}g}" for other in others if other != value):
            return text
    return repr(value)


def strip_controls(text: str) -> str:
    r"""Return a text without what a terminal would obey, such as escape sequences; tabs and newlines stay.

    Args:
        text: Text of anybody.

    Example:
        >>> strip_controls("\x1b]0;title\x07done")
        '�]0;title�done'
    """
    return COMMANDS.sub("\ufffd", text)


def literal(text: str) -> str:
    r"""Return a text for a figure, in which matplotlib finds no formula and nothing that it does not draw.

    Args:
        text: Text of anybody.

    Example:
        >>> print(literal("$x$"))
        \$x\$
    """
    drawable = text.encode("utf-8", "replace").decode()  # half a surrogate pair, as in a damaged file's name
    shown = f"{UNSEEN}{drawable}" if drawable.startswith("_") else drawable  # legends leave such labels out
    return shown.replace("$", r"\$")


def shorten(name: str, most: int) -> str:
    """Return the name, or its two ends, which distinguish names.

    Args:
        name: Name of a category.
        most: Number of letters, at most.

    Example:
        >>> shorten("a_name_that_is_much_too_long", 11)
        'a_nam…_long'
    """
    if len(name) <= most:
        return name
    tail = (most - 1) // 2
    return f"{name[: most - 1 - tail]}…{name[-tail:]}"
