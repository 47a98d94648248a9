"""Report of a sweep: the best point, what its seeds decide, figures and tables by axis.

Everything here is a function of the `StudyRecord`; runs that are missing, unfinished, diverged, stopped or
failed are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from gradscape.analysis.claims import ONE_SEED, Claim, Evidence, differences
from gradscape.analysis.comparisons import Comparison, comparisons
from gradscape.analysis.outcomes import BRIEF, count_states, describe_status, joined, seeds_in_words, window
from gradscape.analysis.sweep_points import Point, axes_of, exactly, format_setting, named, points, ranked
from gradscape.records.role import identities
from gradscape.records.run import StudyRecord
from gradscape.report.build import ReportParts
from gradscape.report.figures.base import Figure
from gradscape.report.figures.by_axis import axis_figure
from gradscape.report.figures.heatmap import heat_figure
from gradscape.report.figures.sweep_curves import curve_figure, flow_lines
from gradscape.report.table_cells import plus_minus
from gradscape.report.tables import Table
from gradscape.stats.paired import ERROR
from gradscape.stats.student_t import interval, percent

PAIRS = 3  # most heat maps
NAMED = 5  # most points to name whose runs are not done


# Figures


def _figures(study: StudyRecord) -> list[Figure]:
    """Accuracy along every axis, over pairs of axes, by epoch; and gradients by layer.

    Example:
        >>> [figure.name for figure in _figures(gradscape.load("runs/sweep"))]
        ['figure-1a', 'figure-1b', 'figure-2', 'figure-3a', 'figure-3b']
    """
    found = points(study)
    axes = axes_of(found)
    open_ = _not_done(study, found)
    along, over, through = "Along each axis", "Over two axes", "Through training and through the layers"
    ends = f"Final validation accuracy ({window(study, list(study.roles))}): "
    bars = "mean with its 95 % interval over seeds (Student t), a faint dot for every run."
    drawn = []
    for name, axis in zip(_panel_names(1, len(axes)), axes, strict=True):
        drawing, note = axis_figure(found, axis)
        drawn.append(_figure(name, f"By {axis}", joined([ends + bars, note, open_]), along, drawing))
    pairs = list(combinations(axes, 2))[:PAIRS]
    for name, (up, across) in zip(_panel_names(2, len(pairs)), pairs, strict=True):
        drawing, note = heat_figure(found, across, up)
        drawn.append(_figure(name, f"By {up} and {across}", f"{ends.rstrip(': ')}. {note}", over, drawing))
    spread = f"Mean over {seeds_in_words([len(p.runs) for p in found])}, band from the lowest to the highest."
    drawing, note = curve_figure(study, found)
    drawn.append(
        _figure("figure-3a", "Validation accuracy by epoch", joined([spread, note]), through, drawing)
    )
    drawing, note = flow_lines(found)
    caption = "Mean |∂L/∂W| of each weight layer over the last epoch there is, geometric mean over seeds."
    drawn.append(_figure("figure-3b", "Gradient flow by layer", joined([caption, note]), through, drawing))
    return drawn


def _panel_names(number: int, count: int) -> list[str]:
    """Return `figure-1`, or the names `figure-1a`, `figure-1b` and so on."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [f"figure-{number}{letters[index] if count > 1 else ''}" for index in range(count)]


def _figure(name: str, title: str, caption: str, group: str, drawing: object) -> Figure:
    return Figure(name, f"{name.replace('figure-', 'Figure ')}. {title}", caption, group, drawing)  # type: ignore[arg-type]


def _not_done(study: StudyRecord, found: Sequence[Point]) -> str:
    """Points whose runs are not all done, a few by name; empty if all are."""
    lacking = [point for point in found if not point.complete]
    words = [f"{named(point.values)} ({count_states(study, point.label)})" for point in lacking[:NAMED]]
    more = f" and {len(lacking) - NAMED} more points" if len(lacking) > NAMED else ""
    return f"Not all runs are done of: {'; '.join(words)}{more}." if words else ""


# Tables


def tables(study: StudyRecord) -> list[Table]:
    """Return the tables of all points, and of all comparisons.

    Args:
        study: Record of a sweep.

    Example:
        >>> print(to_markdown(tables(gradscape.load("runs/sweep"))[1]))
    """
    return [_point_table(study), _comparison_table(study)]


def _point_table(study: StudyRecord) -> Table:
    axes = study.asked["axes"]
    rows = [
        (
            *(exactly(value) for value in point.settings.values()),
            f"{len(point.accuracies)} of {len(point.runs)}",
            _cell(point.accuracies),
            _cell(point.finals("train_accuracy")),
            _cell(point.finals("valid_loss")),
            _cell(_best_test(point)),
            "" if point.complete else count_states(study, point.label),
        )
        for point in points(study)
    ]
    measured = ("acc valid", "acc train", "loss valid", "acc test")
    caption = (
        f"{window(study, list(study.roles)).capitalize()} and over the runs that are done; acc test is on "
        "the test set with the best-validation weights. ± is half the 95 % interval over seeds (Student t)."
    )
    columns = (*axes, "seeds done", *measured, "not done")
    return Table("table-1", "Table 1. Points", caption, columns, tuple(rows), words=("not done",))


def _cell(values: Mapping[int, float]) -> str:
    """Mean over seeds, ± half its interval."""
    if not values:
        return "–"
    found = interval(list(values.values()))
    return f"{found.mean:.3f}" + plus_minus(found, ".3f")


def _best_test(point: Point) -> dict[int, float]:
    """Seed → accuracy on the test set with the best-validation weights."""
    return {
        seed: float(run.test["best"]["accuracy"])
        for seed, run in point.runs.items()
        if run is not None and run.state == "done" and "best" in run.test
    }


def _comparison_table(study: StudyRecord) -> Table:
    found = comparisons(study)
    level = percent(found[0].difference.level) if found else "95 %"
    columns = (
        "axis", "at", "reference", "value", "n", "difference", f"{level} interval", "d_z", "p", "verdict",
        "after Holm", "why",
    )  # fmt: skip
    caption = (
        "Final validation accuracy, value − reference, paired by seed. Verdicts by Student's t at "
        f"{level}; d_z is the mean over the standard deviation of the differences (Cohen 1988). "
        f"{_by_chance(found)}"
    )
    words = ("axis", "at", "verdict", "after Holm", "why")
    rows = tuple(map(_comparison_row, found))
    return Table("table-2", "Table 2. Comparisons", caption, columns, rows, words)


def _comparison_row(each: Comparison) -> tuple[str, ...]:
    found = each.difference
    return (
        each.axis,
        each.setting,
        exactly(each.reference.values[each.axis]),
        exactly(each.other.values[each.axis]),
        str(found.n),
        _signed(found.mean),
        "–" if found.low is None else f"{_signed(found.low)} … {_signed(found.high)}",
        "–" if found.effect is None else f"{_signed(found.effect, 2)}",
        "–" if found.p is None else f"{found.p:.2g}",
        found.verdict,
        each.holm,
        "" if each.decided or (found.p is not None and found.effect is not None) else found.reason,
    )


def _signed(value: float | None, decimals: int = 3) -> str:
    return "–" if value is None else f"{value:+.{decimals}f}".replace("-", "−")


def _by_chance(found: Sequence[Comparison]) -> str:
    """Number of comparisons, and the error rate that comes with it, in sentences."""
    if not found:
        return "There are no two points that differ in one axis alone and have runs of their own."
    count = len(found)
    wrong = f"about {count / 20:.0f}" if count >= 20 else f"one with a chance of {1 - 0.95**count:.0%}"
    one = "This is 1 comparison" if count == 1 else f"These are {count:,} comparisons"
    if count == 1:
        return f"{one}."
    return (
        f"{one}: if nothing mattered at all, 1 in 20 would be decided by chance, here {wrong}. After Holm's "
        "correction (1979) all decided ones together err with a chance of 5 %."
    )


# Claims


def claims(study: StudyRecord) -> list[Claim]:
    """Claim for every axis that it matters, if a comparison along it says so after Holm's correction.

    Args:
        study: Record of a sweep.

    Example:
        >>> [claim.verdict for claim in claims(gradscape.load("runs/sweep"))]
        ['holds', 'undecided']
    """
    found = comparisons(study)
    return [
        _matters(number, axis, [each for each in found if each.axis == axis], len(found))
        for number, axis in enumerate(axes_of(points(study)), start=1)
    ]


def _matters(number: int, axis: str, found: Sequence[Comparison], total: int) -> Claim:
    title, text = f"{axis} matters", f"Validation accuracy depends on {axis}."
    measured = [each for each in found if each.difference.n > 0]
    if not measured:
        why = "No two of its values have runs that are done." if found else "No two of its values compare."
        return Claim(f"C{number}", title, text, "", (), why)
    best = min(measured, key=lambda each: (each.adjusted, -abs(each.difference.mean or 0.0)))
    pairs = differences(best.other.accuracies, best.reference.accuracies)
    open_ = ONE_SEED if all(each.difference.n == 1 for each in measured) else ""
    decided = sum(each.holm != "undecided" for each in found)
    tested = best.difference.p is not None
    why = f"; smallest p after Holm {best.adjusted:.2g}" if tested else f": {best.difference.reason}"
    part = Evidence(
        measured=f"validation accuracy, {_against(best)}, paired by seed: the clearest of {len(found)} "
        f"comparison{'s' if len(found) > 1 else ''} along {axis}",
        rule=f"a comparison is decided after Holm's correction for all {total} (p ≤ {ERROR:.2g})",
        numbers=tuple(pairs.items()),
        interval=interval(list(pairs.values())),
        verdict="holds" if decided else "undecided",
        p=best.adjusted if tested else None,
        limits=(0.0,),
        reason=open_ or f"{decided} of {len(found)} decided{why}",
    )
    return Claim(f"C{number}", title, text, "", (part,))


def _against(each: Comparison) -> str:
    values = (format_setting(point.values[each.axis]) for point in (each.other, each.reference))
    return f"{each.axis} {' − '.join(values)}{f' at {each.setting}' if each.setting else ''}"


# Words


def answer(study: StudyRecord) -> list[str]:
    """Return sentences on the best point, on what is decided, and on the states of the runs.

    Args:
        study: Record of a sweep.
    """
    order, made = ranked(points(study)), comparisons(study)
    return [joined([_best_point(order), _caution(study, order)]), _decisions(made), _states(study)]


def _caution(study: StudyRecord, order: Sequence[Point]) -> str:
    """Return a sentence on the best point's runs that are not done; empty if all are."""
    if not order or order[0].complete:
        return ""
    words = count_states(study, order[0].label)
    return f"Not all of its runs are done ({words}): those that are may be the lucky ones."


def _best_point(order: Sequence[Point]) -> str:
    if not order or order[0].accuracy is None:
        return "No run is done yet."
    best, found = order[0], order[0].accuracy
    where = f"with {named(best.values)}" if best.values else ""
    if found.half is None:
        few = "n = 1" if found.n == 1 else f"all {found.n} seeds equal"
        return f"Highest validation accuracy so far: {found.mean:.3f} {where}; {few}, which claims nothing."
    lucky = " The best of several is also the luckiest: a new seed will likely do a little worse."
    return (
        f"Highest validation accuracy: {found.mean:.3f} ± {found.half:.3f} {where} (mean over seeds and half "
        f"its 95 % interval, n = {found.n}).{lucky if len(order) > 1 else ''}"
    )


def _decisions(made: Sequence[Comparison]) -> str:
    if not made:
        return _by_chance(made)
    if all(each.difference.n < 2 for each in made):
        return f"Nothing is decided: one seed claims nothing (n = 1 in {len(made):,} comparisons at most)."
    decided, kept = sum(each.decided for each in made), sum(each.holm != "undecided" for each in made)
    return (
        f"Each value against its axis' first one, seed by seed: {decided:,} of {len(made):,} comparisons are "
        f"decided and {len(made) - decided:,} undecided; {kept:,} are decided after Holm's correction. "
        f"{_by_chance(made)}"
    )


def _states(study: StudyRecord) -> str:
    """Count the runs in each state, in a sentence."""
    runs = [study.runs.get(identity) for identity in identities(study.roles)]
    words = Counter(BRIEF.split(describe_status(run))[0] or "done" for run in runs)
    return f"Of {len(runs):,} runs: {', '.join(f'{count:,} {word}' for word, count in words.items())}."


PARTS = ReportParts(
    answer=answer,
    figures=_figures,
    tables=tables,
    claims=claims,
    epochs="last",
    multiplicity=lambda study, claims: _by_chance(comparisons(study)),
)
