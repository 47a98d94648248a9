"""Final values of runs, and what guessing reaches."""

import pytest

from gradscape.analysis.outcomes import BY_CHANCE, _guess_limit
from gradscape.stats.student_t import at_least


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("images", [1, 2, 7, 30, 75, 400, 1_000, 3_500])
def test_the_limit_of_guessing_is_the_last_count_that_chance_reaches(classes: int, images: int) -> None:
    count = round(_guess_limit(classes, images) * images)
    assert classes * at_least(count + 1, images, 1 / classes) <= BY_CHANCE
    assert count == 0 or classes * at_least(count, images, 1 / classes) > BY_CHANCE


def test_the_limit_of_guessing_on_the_data_sets_of_the_studies() -> None:
    assert [_guess_limit(*task) for task in ((10, 1_000), (100, 3_500), (100, 47_500))] == [
        0.137, 0.018, 0.012,
    ]  # fmt: skip
