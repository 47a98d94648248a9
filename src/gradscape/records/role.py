"""Roles of a study: what its runs are for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gradscape._codec import Record
from gradscape.config.paths import Value


@dataclass(frozen=True, repr=False)
class Role(Record):
    """Purpose of some runs of a study that differ in their seeds alone.

    Attributes:
        name: Short name, one of its kind in the study, such as `vgg38-bn`: claims and figures refer to it.
        label: Words for figures and tables; by default the name.
        group: Group of roles that it belongs to, or empty.
        parameters: Values that set it apart from the others, such as `{"lr": 0.01}`.
        runs: Identities of its runs, one per seed; empty before they are planned.

    Example:
        >>> Role("he@0.01", "He, lr 0.01", parameters={"remedy": "he", "lr": 0.01})
    """

    name: str
    label: str = ""
    group: str = ""
    parameters: Mapping[str, Value] = field(default_factory=dict, hash=False)
    runs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", self.name)

    def after(self, runs: Iterable[str]) -> Role:
        """Return the role with the runs of an earlier plan before its own.

        Args:
            runs: Identities of the runs.
        """
        return replace(self, runs=tuple(dict.fromkeys([*runs, *self.runs])))


def identities(roles: Mapping[str, Role]) -> list[str]:
    """Return the identities of the runs of all roles, each once.

    Args:
        roles: Role per name.
    """
    return list(roles_by_run(roles))


def roles_by_run(roles: Mapping[str, Role]) -> dict[str, list[Role]]:
    """Return what each run is for, per identity.

    Args:
        roles: Role per name.
    """
    found: dict[str, list[Role]] = {}
    for role in roles.values():
        for identity in role.runs:
            found.setdefault(identity, []).append(role)
    return found
