"""JSON Schemas of the documents for programs, with what each field means.

Fields are only ever added within a schema's number, and so are verdicts: both are open here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradscape.records.check import EFFECTS
from gradscape.records.diagnosis import VERDICTS
from gradscape.records.documents import CHECK, DIAGNOSES, DIAGNOSIS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


TEXT: Schema = {"type": "string"}
TRUTH: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER = _ref("number")
TEXTS, NUMBERS = _list_of(TEXT), _list_of(NUMBER)
# A number that is not finite is a text, as in all JSON of gradscape.
_NUMBER: Schema = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
_GRADE: Schema = {"enum": ["fail", "warn", "info"]}
_VERDICT: Schema = {"type": "string", "examples": list(VERDICTS)}

_Fields = Mapping[str, tuple[Schema, str]]
_EVIDENCE: _Fields = {
    "what": (TEXT, "quantity in words, with its unit"),
    "value": (NUMBER, "number measured"),
    "limit": (NUMBER, "number beyond which it counts"),
    "below": (TRUTH, "true if it counts below the limit rather than above"),
    "source": (TEXT, "source of the limit"),
}
_FINDING: _Fields = {
    "verdict": (_VERDICT, "name of the fault, or `healthy`; later versions know more of them"),
    "grade": (_GRADE, "`fail`: does not train; `warn`: may train, deserves a look; `info`: no fault"),
    "heading": (TEXT, "verdict, layer and place in one line"),
    "layer": (TEXT, "name of the layer where it begins; empty if it concerns the whole network"),
    "place": (TEXT, "place of the layer among all weight layers, in words; empty if not known"),
    "cause": (TEXT, "inferred cause"),
    "remedy": (TEXT, "alternatives that would help, separated by semicolons"),
    "evidence": (_list_of(_ref("evidence")), "numbers that it rests on, each beside its limit"),
}
_DIAGNOSIS: _Fields = {
    "verdict": (_VERDICT, "verdict of the first finding"),
    "grade": (_GRADE, "grade of the first finding, the gravest of all"),
    "heading": (TEXT, "verdict of the first finding, its layer and place in one line"),
    "layer": (TEXT, "layer of the first finding; empty if it concerns the whole network"),
    "findings": ({**_list_of(_ref("finding")), "minItems": 1}, "findings, the gravest first"),
    "seen": (TEXT, "moment at which gradients were read, in words"),
    "unseen": (TEXTS, "quantities that were not looked at, in words"),
    "notes": (TEXTS, "oddities, in words"),
}
_TRIAL: _Fields = {
    "remedy": (TEXT, "name of the remedy; empty for the model as it is"),
    "what": (TEXT, "change that was made, or why it could not be"),
    "effect": ({"enum": list(EFFECTS)}, "effect on the loss beside the model as it is; empty: none known"),
    "verdict": (TEXT, "verdict after the steps; `not tried` where nothing could be tried"),
    "grade": ({"enum": ["fail", "warn", "info", ""]}, "its grade; empty where nothing could be tried"),
    "layer": (TEXT, "layer of that verdict; empty if it has none"),
    "losses": (NUMBERS, "loss before each step"),
    "span": (NUMBER, "orders of magnitude between ‖∂L/∂W‖ of the last weight layer and the first's"),
    "right": (NUMBERS, "share of right answers as it is and with another loss function; empty for others"),
}
_FIT: _Fields = {
    "fits": (TRUTH, "true if less than a tenth of the loss is left"),
    "learns": (TRUTH, "true if a tenth is gone, and more than the best constant output takes away"),
    "losses": (NUMBERS, "loss before each step"),
    "constant": (NUMBER, "loss of the best output that is the same for all samples"),
    "evaluated": (NUMBER, "loss after the steps in eval mode"),
    "samples": (COUNT, "number of the batch's samples that the steps were made on; 0 for all"),
    "size": (COUNT, "number of samples of the batch"),
    "seconds": (NUMBER, "seconds after which the steps were ended; NaN where they were not"),
}
_LAYER: _Fields = {
    "name": (TEXT, "name of the module, or of its call"),
    "kind": (TEXT, "`conv`, `linear`, `norm`, `activation`, …"),
    "width": (COUNT, "numbers in its output for each sample"),
    "second_moment": (NUMBERS, "mean h² of its output, of each seed"),
    "correlation": (NUMBERS, "mean cosine between its outputs for two samples, of each seed"),
    "dead": (NUMBERS, "share of units that no sample activates, of each seed"),
    "saturated": (NUMBERS, "share of values where tanh or sigmoid is flat, of each seed"),
    "nonfinite": (_list_of(TRUTH), "true if its output is not finite, of each seed"),
    "gradient": (NUMBERS, "mean (∂L/∂h)², of each seed"),
    "weight_gradient": (NUMBERS, "mean (∂L/∂W)² over its weights, of each seed"),
}
_JACOBIAN: _Fields = {
    "largest": (NUMBERS, "largest singular value of ∂output/∂input, of each seed"),
    "largest_error": (NUMBERS, "distance from it within which a singular value lies"),
    "smallest": (NUMBERS, "smallest singular value"),
    "mean_square": (NUMBERS, "mean square of the singular values"),
    "mean_square_error": (NUMBERS, "its standard error"),
    "samples": (COUNT, "number of samples that it was measured on"),
    "how": (TEXT, "manner of the computation, in words"),
}
_SIGNAL: _Fields = {
    "samples": (COUNT, "number of samples of the batch"),
    "seeds": (COUNT, "number of networks that were measured, each drawn with another seed"),
    "loss": (NUMBERS, "loss of the batch, of each seed"),
    "mean_chi": (NUMBER, "χ over depth: 1 where gradients keep their length, less where they vanish"),
    "depth_scale": (NUMBER, "weight layers over which gradients change by e in the square"),
    "origin": (TEXT, "place where the first value arose that is not finite; empty if none did"),
    "layers": (_list_of(_ref("layer")), "signal at every layer's output, input to output"),
    "jacobian": (_ref("jacobian"), "singular values of the Jacobian of outputs by inputs"),
    "notes": (TEXTS, "oddities, in words"),
}
_SETTING: Schema = {"anyOf": [NUMBER, {"type": "null"}]}
_OPTIMIZER: _Fields = {
    "name": (TEXT, "name of its class"),
    "lr": (_SETTING, "learning rate; null where it has none"),
    "eps": (_SETTING, "ε of Adam and its like; null elsewhere"),
    "momentum": (_SETTING, "momentum of SGD; null elsewhere"),
}
_CHECK: _Fields = {
    **_DIAGNOSIS,
    "fell": (TRUTH, "true if the loss of the model as it is fell by a hundredth at least"),
    "as_is": (_ref("trial"), "real steps of the model as it is"),
    "band": (NUMBER, "variation over seeds of the loss that these steps end at"),
    "remedies": (_list_of(_ref("trial")), "trials of remedies, the best first"),
    "fit": ({"anyOf": [_ref("fit"), {"type": "null"}]}, "steps to fit the batch; null if left out"),
    "facts": (TEXTS, "what else was found about batch and loss, a line each"),
    "optimizers": (_list_of(_ref("optimizer")), "settings of the optimizers that made the steps"),
    "parameters": (COUNT, "number of the model's parameters"),
    "dtypes": (TEXTS, "dtypes of the parameters, each once"),
    "signal": (_ref("signal"), "signal through the layers before training"),
}
_RUNS: Schema = {
    "type": "object",
    "additionalProperties": {"anyOf": [_ref("diagnosis"), {"type": "null"}]},
}
_DIAGNOSES: _Fields = {
    "study": (TEXT, "name of the study"),
    "preset": (TEXT, "name of its preset"),
    "runs": (_RUNS, "document `gradscape.diagnosis/1` per identity; null for a run without an epoch"),
}


def _object(fields: _Fields) -> Schema:
    """Return the schema of an object that has these fields, and may have others."""
    described = {name: {**schema, "description": text} for name, (schema, text) in fields.items()}
    return {"type": "object", "properties": described, "required": list(fields)}


def _document(name: str, title: str, fields: _Fields, **parts: _Fields) -> Schema:
    """Return the schema of a whole document."""
    known: Schema = {"const": name}
    named = {"schema": (known, "name of the schema and its number"), **fields}
    shared = {"number": _NUMBER, "evidence": _object(_EVIDENCE), "finding": _object(_FINDING)}
    defined = {part: _object(each) for part, each in parts.items()}
    return {"$schema": DIALECT, "title": title, **_object(named), "$defs": {**shared, **defined}}


def diagnosis_schema() -> Schema:
    """Return the JSON Schema of `Diagnosis.to_json()`, and of `gradscape diagnose RUN --json`."""
    return _document(DIAGNOSIS, "Diagnosis of a training", _DIAGNOSIS)


def diagnoses_schema() -> Schema:
    """Return the JSON Schema of `gradscape diagnose STUDY --json`."""
    of_run: _Fields = {"schema": ({"const": DIAGNOSIS}, "name of the schema and its number"), **_DIAGNOSIS}
    return _document(DIAGNOSES, "Diagnoses of a study's runs", _DIAGNOSES, diagnosis=of_run)


def check_schema() -> Schema:
    """Return the JSON Schema of `CheckRecord.to_json()`, and of `gradscape check FACTORY --json`."""
    return _document(
        CHECK,
        "Check of a network before training",
        _CHECK,
        trial=_TRIAL,
        fit=_FIT,
        optimizer=_OPTIMIZER,
        signal=_SIGNAL,
        layer=_LAYER,
        jacobian=_JACOBIAN,
    )


SCHEMAS: Mapping[str, Callable[[], Schema]] = {
    "diagnosis": diagnosis_schema,
    "diagnoses": diagnoses_schema,
    "check": check_schema,
}
