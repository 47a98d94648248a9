"""Numbers in sentences."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 layer`, `2 layers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"
