"""The names that a user's study imports."""

import gradscape.study


def test_every_public_name_is_there_and_no_other() -> None:
    names = [name for names in gradscape.study._HOMES.values() for name in names]
    assert sorted(names) == gradscape.study.__all__
    for name in gradscape.study.__all__:
        assert getattr(gradscape.study, name).__name__ == name
