from pathlib import Path
from typing import Any

import pytest

from gradscape.errors import GradscapeError
from gradscape.records.role import Role
from gradscape.storage.study_folder import StudyFolder
from gradscape.studies.catalogue import STUDIES, rebuild

PLAN = {
    "title": "A study", "preset": "quick", "data": "digits", "seeds": [0], "notes": [],
    "roles": {"another": Role("another", label="a role of a later version", runs=("abc",))},
}  # fmt: skip


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_of_another_version_is_refused_with_what_to_type(tmp_path: Path, study: str) -> None:
    StudyFolder(tmp_path).ask({"study": study, **PLAN})
    cure = f"gradscape reproduce {study} --preset quick --data digits --out {tmp_path}"
    with pytest.raises(GradscapeError, match=f"lacks the role .*; to add it type: {cure}"):
        rebuild(StudyFolder(tmp_path))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"data": None}, "study.json is damaged .*'data'"),
        ({"data": "nix"}, "data.*expected .*digits"),
        ({"preset": "nix"}, "preset: expected one of quick"),
    ],
)
def test_a_study_whose_plan_is_not_known_is_refused(
    tmp_path: Path, broken: dict[str, Any], words: str
) -> None:
    plan = {"study": "batchnorm", **PLAN, **broken}
    StudyFolder(tmp_path).ask({name: value for name, value in plan.items() if value is not None})
    with pytest.raises(GradscapeError, match=words):
        rebuild(StudyFolder(tmp_path))
