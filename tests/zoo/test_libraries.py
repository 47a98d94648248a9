"""No measure harms a model of another library, and each works on it or says in one line why not."""

from __future__ import annotations

import pytest

import zoo.torchvision_stub  # noqa: F401, where torchvision is installed, transformers imports it
from libraries import skip_without
from zoo.cases import MEASURES, Case
from zoo.libraries import LIBRARIES, TRANSFORMERS
from zoo.snapshot import differences, saved, snapshot
from zoo.test_small import measured

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # theirs


def all_measures_leave_it(case: Case) -> None:
    model = case.model()
    batch = case.batch() if callable(case.batch) else case.batch
    files = saved(model)
    before = snapshot(model)
    for measure in MEASURES:
        measured(measure, case, model, batch)
        assert differences(before, snapshot(model)) == [], measure
    assert saved(model) == files


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_models_of_transformers_are_left_as_found(name: str) -> None:
    skip_without("transformers")
    all_measures_leave_it(TRANSFORMERS[name])


@pytest.mark.parametrize(
    ("library", "name"), [(library, name) for library, cases in LIBRARIES.items() for name in cases]
)
def test_models_of_other_libraries_are_left_as_found(library: str, name: str) -> None:
    pytest.importorskip(library, exc_type=ImportError)
    all_measures_leave_it(LIBRARIES[library][name])
