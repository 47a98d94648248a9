import numpy as np
import pytest
from matplotlib.figure import Figure

from gradscape.records.heatmap import ColorScale, draw_map


@pytest.mark.parametrize(("row", "ends"), [("step", (1.0, 4.0)), ("epoch", (0.5, 3.5))])
def test_a_step_s_cell_begins_at_it_and_an_epoch_s_lies_around_it(
    row: str, ends: tuple[float, float]
) -> None:
    axes = Figure().add_subplot()
    draw_map(axes, np.array([1, 2, 3]), ["a", "b"], np.ones((3, 2)), ColorScale("size"), row)  # type: ignore[arg-type]
    assert axes.get_xlim() == ends
    assert axes.get_xlabel() == row


def test_a_long_name_keeps_its_block_and_its_layer() -> None:
    names = [f"stages.{stage}.blocks.11.conv_{kind}.weight" for stage in range(2) for kind in ("dw", "pw")]
    axes = Figure().add_subplot()
    draw_map(axes, np.array([1, 2]), names, np.ones((2, 4)), ColorScale("size"))
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert len(set(labels)) == 4
    assert labels[0] == "stages.0.bl….11.conv_dw"[:11] + "…11.conv_dw"


def test_of_many_rows_some_are_drawn() -> None:
    axes = Figure().add_subplot()
    draw_map(axes, np.arange(5_000), ["a"], np.ones((5_000, 1)), ColorScale("size"))
    (mesh,) = axes.collections
    assert mesh.get_array().size == 1_667
    assert axes.get_xlim() == (0.0, 5_001.0)
