"""Which library converts configurations and records to and from JSON: msgspec, cattrs or pydantic.

`python benchmarks/codecs.py` (with all three installed) tries each on a `RunConfig` and on the gradient flow
of one epoch of VGG38, 117 parameter tensors with nine columns, and writes `results/codecs.json`: the time to
import it and make its converters, the time to write and to read, what it says of five slips in a
configuration, what becomes of NaN and infinity, and which inexact types it lets pass. Then the ways to keep
such a flow as a line of a file: bytes of a line, and the time to read 100. What was chosen and why stands in
the docstrings of `gradscape._codec` and `gradscape.config.serialize`.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from gradscape.config.run import RunConfig
from measure import write

LAYERS = 117  # parameter tensors of VGG38 with BatchNorm
TIMES = 300
STARTS = 11
SLIPS: Mapping[str, dict[str, Any]] = {
    "unknown key": {"net": {"dept": 8}},
    "wrong type": {"net": {"depth": "deep"}},
    "none of the choices": {"net": {"norm": "bach"}},
    "no mapping": {"net": 3},
    "out of range": {"optim": {"beta1": 2.0}},
}
INEXACT: Mapping[str, dict[str, Any]] = {
    "true for a whole number": {"net": {"depth": True}},
    "8.0 for a whole number": {"net": {"depth": 8.0}},
    "'0.1' for a number": {"optim": {"lr": "0.1"}},
    "1 for a number": {"optim": {"lr": 1}},
}


@dataclass(frozen=True)
class Flow:
    """The gradient flow of an epoch."""

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    mean_abs: tuple[float, ...]
    last_mean_abs: tuple[float, ...]
    rms: tuple[float, ...]
    max_abs: tuple[float, ...]
    zeros: tuple[float, ...]
    nonfinite: tuple[float, ...]
    relative: tuple[float, ...]
    update: tuple[float, ...]
    weight_norm: tuple[float, ...]


@dataclass(frozen=True)
class Numbers:
    """What JSON has no number for."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class Codec:
    """One library: values to JSON and back, the schema of a type."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes, Any], Any]
    schema: Callable[[Any], Any] | None


def with_msgspec() -> Codec:
    import msgspec

    return Codec(
        msgspec.json.encode, lambda text, kind: msgspec.json.decode(text, type=kind), msgspec.json.schema
    )


def with_cattrs() -> Codec:
    import cattrs
    from cattrs.preconf.json import make_converter

    converter = make_converter(forbid_extra_keys=True)

    def decode(text: bytes, kind: Any) -> Any:
        try:
            return converter.loads(text, kind)
        except Exception as error:
            raise ValueError("; ".join(cattrs.transform_error(error))) from error

    return Codec(lambda value: converter.dumps(value).encode(), decode, None)


def with_pydantic() -> Codec:
    from functools import cache

    from pydantic import TypeAdapter

    adapter = cache(TypeAdapter)
    return Codec(
        lambda value: adapter(type(value)).dump_json(value),
        lambda text, kind: adapter(kind).validate_json(text, strict=True, extra="forbid"),
        lambda kind: adapter(kind).json_schema(),
    )


CODECS = {"msgspec": with_msgspec, "cattrs": with_cattrs, "pydantic": with_pydantic}


def flow() -> Flow:
    names = tuple(f"stages.{layer // 36}.{layer % 36}.conv1.weight" for layer in range(LAYERS))
    column = tuple(1e-3 * math.exp(-layer / 7.3) for layer in range(LAYERS))
    return Flow(names, ("conv",) * LAYERS, *(column,) * 9)


def milliseconds(call: Callable[[], Any]) -> float:
    """Median time of a call."""
    taken = []
    for _ in range(TIMES):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return round(1e3 * median(taken), 4)


def answer(call: Callable[[], Any]) -> str:
    """What a call returns or raises, in words."""
    try:
        return f"accepted: {call()}"[:120]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def tried(name: str) -> dict[str, Any]:
    """One library, in a process that has imported all of Python's own that it could need."""
    start = time.perf_counter()
    codec = CODECS[name]()
    first = codec.decode(b"{}", RunConfig)
    ready = 1e3 * (time.perf_counter() - start)
    found: dict[str, Any] = {"milliseconds to import and read a first configuration": round(ready, 1)}
    for what, value in (("a configuration", first), ("a gradient flow", flow())):
        text = codec.encode(value)
        assert codec.decode(text, type(value)) == value
        found[what] = {
            "bytes": len(text),
            "milliseconds to write": milliseconds(partial(codec.encode, value)),
            "milliseconds to read": milliseconds(partial(codec.decode, text, type(value))),
        }
    read = {
        what: answer(lambda values=values: codec.decode(json.dumps(values).encode(), RunConfig))
        for what, values in {**SLIPS, **INEXACT}.items()
    }
    found["slips"] = {what: read[what] for what in SLIPS}
    found["inexact types"] = {what: read[what].split(":")[0] for what in INEXACT}
    text = codec.encode(Numbers((math.nan, math.inf, -math.inf)))
    found["NaN, infinity"] = {
        "written": text.decode(),
        "read": answer(lambda: codec.decode(text, Numbers)),
        "'NaN' read": answer(lambda: codec.decode(b'{"values": ["NaN", "Infinity"]}', Numbers)),
    }
    found["JSON Schema"] = codec.schema is not None
    return found


def by_hand() -> dict[str, Any]:
    """The same with `dataclasses.asdict`, `json` and a constructor, as it was before."""
    value = flow()
    text = json.dumps(dataclasses.asdict(value)).encode()
    return {
        "a gradient flow": {
            "bytes": len(text),
            "milliseconds to write": milliseconds(lambda: json.dumps(dataclasses.asdict(value))),
            "milliseconds to read": milliseconds(
                lambda: Flow(**{name: tuple(column) for name, column in json.loads(text).items()})
            ),
        }
    }


def kept() -> dict[str, Any]:
    """Ways to keep the gradient flows of a run."""
    import msgspec

    whole = flow()
    columns = [list(column) for column in dataclasses.astuple(whole)[2:]]
    table = np.array(columns)
    binary = io.BytesIO()
    np.save(binary, table)
    from_json = msgspec.json.decode
    ways: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
        "JSON with names, by json": (json.dumps(dataclasses.asdict(whole)).encode(), json.loads),
        "JSON with names, by msgspec": (
            json.dumps(dataclasses.asdict(whole)).encode(),
            lambda line: from_json(line, type=Flow),
        ),
        "JSON of columns, by msgspec": (
            json.dumps(columns).encode(),
            lambda line: from_json(line, type=list[list[float]]),
        ),
        "JSON of columns as base64": (
            json.dumps({"epoch": 1, "columns": base64.b64encode(table.tobytes()).decode()}).encode(),
            lambda line: np.frombuffer(base64.b64decode(json.loads(line)["columns"])).reshape(9, LAYERS),
        ),
        "NumPy's file": (binary.getvalue(), lambda data: np.load(io.BytesIO(data))),
    }
    return {
        way: {
            "bytes": len(line),
            "milliseconds to read 100": round(100 * milliseconds(partial(decode, line)), 2),
        }
        for way, (line, decode) in ways.items()
    }


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(tried(sys.argv[1])))
        return
    found: dict[str, Any] = {"by hand": by_hand()}
    for name in CODECS:
        runs = [json.loads(subprocess.check_output([sys.executable, __file__, name])) for _ in range(STARTS)]
        key = "milliseconds to import and read a first configuration"
        found[name] = {**runs[0], key: median(run[key] for run in runs)}
    write("codecs", found | {"an epoch's flow in a file": kept()})


if __name__ == "__main__":
    main()
