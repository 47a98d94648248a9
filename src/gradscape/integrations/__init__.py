"""Callbacks and sinks for the tools that people train with; each is imported when it is first used.

`lightning.WatchCallback` and `transformers.WatchCallback` are callbacks of the two trainers and need them
installed; the sinks write rows of a watch to a JSONL file, TensorBoard, Weights & Biases, MLflow and Trackio;
webhooks and commands tell what is found while it trains.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradscape.integrations.alerts import Alert, Command, Webhook
    from gradscape.integrations.folder import Folder
    from gradscape.integrations.jsonl import JsonLines, read_jsonl
    from gradscape.integrations.sink import Sink
    from gradscape.integrations.trackers import MLflow, TensorBoard, Trackio, WandB

_HOMES = {
    "Alert": "alerts",
    "Command": "alerts",
    "Folder": "folder",
    "JsonLines": "jsonl",
    "MLflow": "trackers",
    "Sink": "sink",
    "TensorBoard": "trackers",
    "Trackio": "trackers",
    "WandB": "trackers",
    "Webhook": "alerts",
    "read_jsonl": "jsonl",
}
__all__ = [
    "Alert",
    "Command",
    "Folder",
    "JsonLines",
    "MLflow",
    "Sink",
    "TensorBoard",
    "Trackio",
    "WandB",
    "Webhook",
    "read_jsonl",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"gradscape.integrations.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'gradscape.integrations' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
