"""Document of one training: all that its page draws, as plain values for JSON.

Tables of layer × step are float32 in base64, at most `COLUMNS` of their rows: every k-th, and the last. Loss
curves of more than `POINTS` steps are joined: lowest, mean and highest of equally many steps each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import encode
from gradscape.analysis.outcomes import task
from gradscape.measure.diagnose.from_run import recorded
from gradscape.records.activations import SCALES as OUTPUT_SCALES
from gradscape.records.activations import ActivationHistory
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.encoding import Values
from gradscape.records.gradients import SCALES, FlowHistory, OptimizerFacts
from gradscape.records.heatmap import ColorScale
from gradscape.records.loss import LossHistory
from gradscape.records.run import RunRecord
from gradscape.records.spikes import Spike
from gradscape.report.interactive.cells import Written, as_floats, every_kth
from gradscape.report.interactive.distribution_bands import distribution_bands
from gradscape.report.interactive.transformer_curves import transformer_curves
from gradscape.report.interactive.verdicts import Verdict, since

COLUMNS = 400  # rows in a map: as many as a wide screen tells apart
CELLS = 60_000  # cells of a map, at most, so that a page of several stays below 5 MB
POINTS = 800  # points of a curve
TENSOR_NUMBERS = ("mean_abs", "rms", "relative_update")  # last ones of every parameter tensor
TITLES = {
    "mean_abs": "gradient",
    "relative_update": "update",
    "weight": "weights",
    "agreement": "agreement",
    "second_moment": "signal",
    "correlation": "alike samples",
    "dead": "dead units",
    "saturated": "saturated",
}
APART = (
    "findings",
    "profile",
)  # of a diagnosis: a page has more of both
HEALTHY_STEP = 1e-3  # ‖ΔW‖/‖W‖ near which healthy steps are (Karpathy 2015, CS231n)


def watch_document(
    history: FlowHistory, diagnosis: Diagnosis | None, verdicts: Sequence[Verdict], **facts: Any
) -> dict[str, Any]:
    """Return the document of a watched training.

    Args:
        history: Rows of the watch.
        diagnosis: Diagnosis of the rows; None before there is anything to judge.
        verdicts: Verdicts as they formed.
        facts: Further values for the page: `id`, `name`, `state`, `error`, `written`.
    """
    curves = [] if history.loss is None else [_loss_curve(history.loss)]
    curves += transformer_curves(history.transformer)
    return _document(history, diagnosis, verdicts, curves, facts)


def run_document(
    run: RunRecord, diagnosis: Diagnosis | None, verdicts: Sequence[Verdict], **facts: Any
) -> dict[str, Any]:
    """Return the document of a run, epoch by epoch.

    Args:
        run: Record with one epoch at least.
        diagnosis: Diagnosis of the run; None for none.
        verdicts: Verdicts as they formed.
        facts: Further values for the page; see `watch_document`.
    """
    known = {**run_facts(run), "config": run.config}
    return _document(recorded(run), diagnosis, verdicts, run_curves(run), {**known, **facts})


def run_facts(run: RunRecord) -> dict[str, Any]:
    """Return what a run's page says above its curves.

    Args:
        run: Record of a run.
    """
    return {
        "id": run.identity,
        "name": run.identity,
        "state": run.state,
        "planned": run.config["epochs"],
        "words": [
            f"test accuracy {each['accuracy']:.3f} ({which} weights)" for which, each in run.test.items()
        ],
    }


def _document(
    history: FlowHistory,
    diagnosis: Diagnosis | None,
    verdicts: Sequence[Verdict],
    curves: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    shown = shown_rows(len(history.steps), len(history.weights))
    found: dict[str, Any] = encode(
        {
            **rows_facts(history, shown),
            **judgement(diagnosis),
            "verdicts": [each.to_dict() for each in verdicts],
            "since": since(verdicts),
            "curves": list(curves),
            "layers": _layers(history),
            **facts,
        }
    )
    # Not through the codec, which would look at each letter of them.
    return {
        **found,
        "maps": [*flow_maps(history, shown), *_output_maps(history.activations, shown)],
        "bands": distribution_bands(
            history.distributions, [history.layers[each] for each in history.weights]
        ),
    }


def rows_facts(history: FlowHistory, shown: NDArray[np.intp]) -> dict[str, Any]:
    """Return how many rows there are, which of them maps show, and the optimizers in words.

    Args:
        history: Rows of a training.
        shown: Places of the rows that are shown.
    """
    return {
        "row": history.row,
        "rows": len(history.steps),
        "at": history.steps[-1].item() if len(history.steps) else None,
        "every": int(shown[1] - shown[0]) if len(shown) > 1 else 1,
        "steps": history.steps[shown],
        "optimizers": [_in_words(facts) for facts in history.optimizers],
    }


def judgement(diagnosis: Diagnosis | None) -> dict[str, Any]:
    """Return a diagnosis, and its findings with what is derived of them.

    Args:
        diagnosis: Diagnosis of a training; None for none.
    """
    if diagnosis is None:
        return {"diagnosis": None, "findings": []}
    summary = {name: value for name, value in diagnosis.to_dict().items() if name not in APART}
    findings = [{**encode(each), "grade": each.grade, "heading": each.heading} for each in diagnosis.findings]
    return {"diagnosis": summary, "findings": findings}


def shown_rows(rows: int, layers: int) -> NDArray[np.intp]:
    """Return the places of the rows that a map shows: every k-th from the first, and the last.

    Args:
        rows: Number of rows.
        layers: Number of layers.
    """
    return every_kth(rows, max(2, min(COLUMNS, CELLS // max(layers, 1))))


def flow_maps(
    history: FlowHistory, shown: NDArray[np.intp], written: Written = as_floats
) -> list[dict[str, Any]]:
    """Return maps of gradients, updates and weights of the weight layers.

    Args:
        history: Rows of a training.
        shown: Places of the rows that are shown.
        written: Function that writes a table's numbers.
    """
    columns = history.weights
    names = [history.layers[column] for column in columns]
    marks = {"mean_abs": _floors(history), "relative_update": [("healthy", HEALTHY_STEP)]}
    return [
        _map_of(
            name, _marked(history, name)[:, columns], names, SCALES[name], shown, marks.get(name, []), written
        )
        for name in ("mean_abs", "relative_update", "agreement", "weight")
        if np.isfinite(getattr(history, name)[:, columns]).any() or name == "mean_abs"
    ]


def _marked(history: FlowHistory, name: str) -> Values:
    """Return values, ∞ instead of NaN where a gradient was not finite: a map tells that from no gradient."""
    values: Values = getattr(history, name)
    return np.where(np.isnan(values) & (history.nonfinite > 0), np.float32(np.inf), values)


def _floors(history: FlowHistory) -> list[tuple[str, float]]:
    """Values of a gradient below which nothing of it is left in a step."""
    return [(f"{each.name}'s ε", each.eps) for each in history.optimizers[:1] if each.eps]


def _output_maps(outputs: ActivationHistory | None, shown: NDArray[np.intp]) -> list[dict[str, Any]]:
    """Maps of each statistic that any layer's output has."""
    if outputs is None:
        return []
    return [
        _map_of(name, getattr(outputs, name), outputs.layers, OUTPUT_SCALES[name], shown, [])
        for name in ("second_moment", "correlation", "dead", "saturated")
        if np.isfinite(getattr(outputs, name)).any()
    ]


def _map_of(
    name: str,
    values: Values,
    layers: Sequence[str],
    scale: ColorScale,
    shown: NDArray[np.intp],
    marks: Sequence[tuple[str, float]],
    written: Written = as_floats,
) -> dict[str, Any]:
    """Return a map's layers, scale and values (L, T), row by row."""
    return {
        "key": name,
        "title": TITLES[name],
        "label": scale.label,
        "log": scale.range is None,
        "colors": "cosine" if scale.colors == "RdBu" else "size",
        "range": scale.range or _decades(values),
        "marks": [{"label": label, "value": value} for label, value in marks],
        "layers": list(layers),
        **written(values[shown].T),
    }


def _decades(values: Values) -> tuple[float, float]:
    """Return whole decades around all values above 0, one at least."""
    seen = values[np.isfinite(values) & (values > np.finfo(np.float32).tiny)]
    if not seen.size:
        return 1e-12, 1.0
    low, high = math.floor(math.log10(seen.min())), math.ceil(math.log10(seen.max()))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _loss_curve(loss: LossHistory) -> dict[str, Any]:
    """Return the loss over the steps, joined where they are many, with that of guessing and its spikes."""
    return {
        "title": "loss",
        "series": [{"label": "loss", **joined(loss.steps, loss.values)}],
        "reference": _guessing(loss),
        "events": [{"step": each.first, "text": _spike_text(each)} for each in loss.spikes],
    }


def _spike_text(spike: Spike) -> str:
    batch = "" if spike.batch is None else f"; batch: {spike.batch}"
    moved = f"; first moved the {spike.moves[0]}" if spike.moves else ""
    return f"spike: {spike.heading}{batch}{moved}"


def joined(steps: NDArray[np.int64], values: Values, most: int = POINTS) -> dict[str, Any]:
    """Return a curve of at most so many points: mean, lowest and highest value of equally many steps each.

    Args:
        steps: (T,) Steps.
        values: (T,) Values.
        most: Number of points.
    """
    if len(steps) <= most:
        return {"x": steps, "y": values}
    edges = np.linspace(0, len(steps), most + 1).astype(int)[:-1]
    counts = np.diff(np.append(edges, len(steps)))
    low, high = (each.reduceat(values, edges) for each in (np.minimum, np.maximum))
    with np.errstate(invalid="ignore"):
        mean = np.add.reduceat(values, edges) / counts
    return {"x": steps[np.append(edges[1:], len(steps)) - 1], "y": mean, "low": low, "high": high}


def _guessing(loss: LossHistory) -> dict[str, Any] | None:
    """Return the cross-entropy of guessing among equally likely classes; None of another loss."""
    terms = [term for reading in loss.readings[:1] for term in reading.terms]
    if len(terms) != 1 or terms[0].name != "cross_entropy" or terms[0].classes < 2:
        return None
    return {"label": f"guessing among {terms[0].classes}", "value": math.log(terms[0].classes)}


def run_curves(run: RunRecord) -> list[dict[str, Any]]:
    """Return loss and accuracy over the epochs, of training and validation images.

    Args:
        run: Record of a run.
    """
    guess = 1 / task(run)[0]
    levels = {"loss": -math.log(guess), "accuracy": guess}
    return [
        {
            "title": what,
            "series": [
                {"label": label, "x": run.curve("epoch"), "y": run.curve(f"{split}_{what}")}
                for split, label in (("train", "training"), ("valid", "validation"))
            ],
            "reference": {"label": "guessing", "value": level},
        }
        for what, level in levels.items()
    ]


def _layers(history: FlowHistory) -> list[dict[str, Any]]:
    """Return every parameter tensor with its last numbers."""
    last = {name: getattr(history, name) for name in TENSOR_NUMBERS}
    return [
        {
            "name": name,
            "kind": history.kinds[place],
            "size": history.sizes[place],
            "shape": history.shapes[place] if history.shapes else (),
            **{key: values[-1, place].item() if len(values) else None for key, values in last.items()},
        }
        for place, name in enumerate(history.layers)
    ]


def _in_words(facts: OptimizerFacts) -> str:
    """Return an optimizer's settings as `Adam, lr 0.001, ε 1e-08`."""
    values = [("lr", facts.lr), ("ε", facts.eps), ("momentum", facts.momentum or None)]
    decay = max(facts.decay, default=0.0)
    values.append(("weight decay", decay or None))
    return ", ".join([facts.name, *(f"{name} {value:g}" for name, value in values if value is not None)])
