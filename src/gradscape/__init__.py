"""gradscape tells why a deep network trains or does not, and shows it.

The public names; torch is imported with the first that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradscape.config import DataConfig, NetConfig, OptimConfig, RunConfig
from gradscape.errors import GradscapeError
from gradscape.store import RunFolder, load

if TYPE_CHECKING:
    from gradscape.data import load_images
    from gradscape.measure.gradient_flow import FlowRecorder
    from gradscape.train.loop import train_run

__all__ = [
    "DataConfig",
    "FlowRecorder",
    "GradscapeError",
    "NetConfig",
    "OptimConfig",
    "RunConfig",
    "RunFolder",
    "load",
    "load_images",
    "train_run",
]
__version__ = "0.1.0"

LATE = {
    "FlowRecorder": "gradscape.measure.gradient_flow",
    "load_images": "gradscape.data",
    "train_run": "gradscape.train.loop",
}


def __getattr__(name: str) -> Any:
    if name in LATE:
        return getattr(import_module(LATE[name]), name)
    raise AttributeError(f"module 'gradscape' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
