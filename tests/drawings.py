"""What tests ask of a drawing."""

from matplotlib.figure import Figure as Drawing


def texts(drawing: Drawing) -> list[str]:
    return [text.get_text() for axes in drawing.axes for text in axes.texts]


def assert_nothing_is_cut(drawing: Drawing) -> None:
    """All that is drawn lies on the page (half a point of slack for line caps)."""
    layout = drawing.get_layout_engine()
    assert layout is not None
    layout.execute(drawing)  # all that moves: drawing the rest takes as long again
    box, (width, height) = drawing.get_tightbbox(), drawing.get_size_inches()
    slack = 0.5 / 72
    assert box.x0 >= -slack
    assert box.y0 >= -slack
    assert box.x1 <= width + slack
    assert box.y1 <= height + slack
