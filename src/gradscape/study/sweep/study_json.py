"""Contents of a sweep's `study.json`, and how a later plan joins those that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradscape.config.paths import CONTROLS, DEFAULTS, FIELDS, Value, flat, format_value
from gradscape.config.run import RunConfig
from gradscape.errors import StoreError
from gradscape.records.role import Role
from gradscape.study.sweep.axes import label
from gradscape.study.sweep.batch_size_controls import configure

SEVERAL = "several"  # data sets or precisions
SCALED = {
    "linear": "in proportion to the batch size, from {size} (Goyal et al. 2017)",
    "sqrt": "with the root of the batch size, from {size} (Krizhevsky 2014; Malladi et al. 2022)",
}


def default_title(fields: Sequence[str]) -> str:
    """Return `Sweep over net.depth, optim.lr and batch_size`.

    Args:
        fields: Names of the fields that vary.
    """
    *first, last = fields
    return f"Sweep over {', '.join(first)} and {last}" if first else f"Sweep over {last}"


def merge(asked: Mapping[str, Any] | None, new: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the union of two plans of one sweep, described.

    Points get the base's values of fields that only the other's axes vary, and new labels.

    Args:
        asked: Contents of `study.json`, or None.
        new: Contents of the new plan.
        folder: Folder of the study, for messages.

    Raises:
        StoreError: The folder holds another study, sweep or base.
    """
    if asked is None:
        return _described(new)
    _require_same(asked, new, folder)
    axes = list(dict.fromkeys([*asked["axes"], *new["axes"]]))
    roles: dict[str, Role] = {}
    for each in (asked, new):
        base = _whole_base(each)
        for role in each["roles"].values():
            point = {name: role.parameters.get(name, base[name]) for name in axes}
            name = label(point)
            joined = Role(name, parameters=point, runs=role.runs)
            roles[name] = joined.after(roles[name].runs) if name in roles else joined
    looked = sorted({*asked.get("looked", ()), *new["looked"]})
    own = [each["title"] for each in (new, asked) if each["title"] != default_title(each["axes"])]
    return _described(
        {
            **new,
            "title": own[0] if own else default_title(axes),
            "seeds": sorted({*asked["seeds"], *new["seeds"]}),
            "looks": max(asked.get("looks", 1), new["looks"], len(looked)),
            "looked": looked,
            "base": asked["base"],
            "equal_updates": asked["equal_updates"],
            "scale_lr": asked["scale_lr"],
            "axes": axes,
            "roles": roles,
        }
    )


def _require_same(asked: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Raise unless both belong to one sweep."""
    cure = "give another folder with --out"
    for key, name in (("study", "study"), ("preset", "sweep")):
        if asked.get(key) != new[key]:
            raise StoreError(f"{folder} holds {name} {asked.get(key)!r}, not {new[key]!r}; {cure}")
    axes = {*asked["axes"], *new["axes"]}
    if _controlled(asked) or _controlled(new):
        axes -= {"batch_size"}  # updates and rates are relative to the base's
    before, now = _whole_base(asked), _whole_base(new)
    for name in FIELDS:
        if name not in axes and before[name] != now[name]:
            old, wanted = format_value(before[name]), format_value(now[name])
            raise StoreError(f"{folder} holds a base of {name} {old}, not {wanted}; {cure}")


def _controlled(asked: Mapping[str, Any]) -> bool:
    """True if any point's updates or rates are relative to the base's batch size."""
    points = [{**asked, **role.parameters} for role in asked["roles"].values()]
    return any(point["equal_updates"] or point["scale_lr"] != "none" for point in points)


def given_base(asked: Mapping[str, Any]) -> dict[str, Value]:
    """Return the value per field that the base sets, controls among them.

    Args:
        asked: Contents of `study.json`.
    """
    given: dict[str, Any] = flat(asked["base"], "base")
    return given | {name: asked[name] for name in CONTROLS}


def _whole_base(asked: Mapping[str, Any]) -> dict[str, Value]:
    """Return the base's value of every field."""
    return {**DEFAULTS, **given_base(asked)}


def _described(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Add a sweep's data, precision and notes, for the report."""
    configs = [configure(given_base(asked), role.parameters) for role in asked["roles"].values()]
    return {
        "study": asked["study"],
        "preset": asked["preset"],
        "title": asked["title"],
        "data": _one_of([config.data.name for config in configs]),
        "precision": _one_of([config.precision for config in configs]),
        "seeds": asked["seeds"],
        "looks": asked["looks"],
        "looked": asked["looked"],
        "notes": [*filter(None, [_common(configs), *_control_notes(asked)])],
        "base": asked["base"],
        "equal_updates": asked["equal_updates"],
        "scale_lr": asked["scale_lr"],
        "axes": asked["axes"],
        "roles": asked["roles"],
    }


def _one_of(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else SEVERAL


def _common(configs: Sequence[RunConfig]) -> str:
    """Sentence on the data and epochs that all runs have in common; empty if none."""
    images = {(config.data.train, config.data.name) for config in configs}
    epochs = {config.epochs for config in configs}
    words = [f"on {train:,} training images of {name}" for train, name in images if len(images) == 1]
    words += [f"for {count} epoch{'s' * (count != 1)}" for count in epochs if len(epochs) == 1]
    return f"Every run trains {' '.join(words)}." if words else ""


def _control_notes(asked: Mapping[str, Any]) -> list[str]:
    """Sentences on the effect of controls on their runs."""
    size = format_value(_whole_base(asked)["batch_size"])
    points = [{**asked, **role.parameters} for role in asked["roles"].values()]
    notes = []
    if any(point["equal_updates"] for point in points):
        which = "With equal_updates=yes epochs" if "equal_updates" in asked["axes"] else "Epochs"
        notes.append(
            f"{which} are chosen so that every batch size makes about as many updates as batch size {size}."
        )
    for scaling, how in SCALED.items():
        if any(point["scale_lr"] == scaling for point in points):
            which = f"With scale_lr={scaling} learning" if "scale_lr" in asked["axes"] else "Learning"
            notes.append(f"{which} rates, first and last, go {how.format(size=size)}.")
    return notes
