"""gradscape tells why a deep network trains or does not, and shows it.

The public names; each is imported when it is first used, so that `import gradscape` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradscape.version import __version__ as __version__

if TYPE_CHECKING:
    from gradscape.analysis.comparison import compare
    from gradscape.config.network import NetConfig
    from gradscape.config.run import DataConfig, OptimConfig, RunConfig
    from gradscape.data import load_images
    from gradscape.errors import GradscapeError
    from gradscape.live.start import start_live
    from gradscape.measure.check.check import check
    from gradscape.measure.coordinates.coordinate_check import coordinate_check
    from gradscape.measure.curvature.curvature import curvature
    from gradscape.measure.diagnose.diagnose import diagnose
    from gradscape.measure.diagnose.limits import Limits
    from gradscape.measure.landscape.landscape import landscape
    from gradscape.measure.lr_range.lr_range import lr_range
    from gradscape.measure.noise import noise
    from gradscape.measure.replay import replay
    from gradscape.measure.smoothness.smoothness import smoothness
    from gradscape.measure.watch.epoch_recorder import FlowRecorder
    from gradscape.measure.watch.ranks.watch_ranks import Ranks
    from gradscape.measure.watch.watch import watch
    from gradscape.measure.watch.watch_noise import watch_noise
    from gradscape.report.markdown import to_markdown
    from gradscape.report.pages.save import save_html
    from gradscape.storage.run_folder import RunFolder
    from gradscape.storage.study_folder import load
    from gradscape.study.sweep.sweep import Sweep
    from gradscape.train.loop import train_run

HOMES = {
    "DataConfig": "gradscape.config.run",
    "FlowRecorder": "gradscape.measure.watch.epoch_recorder",
    "GradscapeError": "gradscape.errors",
    "Limits": "gradscape.measure.diagnose.limits",
    "NetConfig": "gradscape.config.network",
    "OptimConfig": "gradscape.config.run",
    "Ranks": "gradscape.measure.watch.ranks.watch_ranks",
    "RunConfig": "gradscape.config.run",
    "RunFolder": "gradscape.storage.run_folder",
    "Sweep": "gradscape.study.sweep.sweep",
    "check": "gradscape.measure.check.check",
    "compare": "gradscape.analysis.comparison",
    "coordinate_check": "gradscape.measure.coordinates.coordinate_check",
    "curvature": "gradscape.measure.curvature.curvature",
    "diagnose": "gradscape.measure.diagnose.diagnose",
    "landscape": "gradscape.measure.landscape.landscape",
    "load": "gradscape.storage.study_folder",
    "load_images": "gradscape.data",
    "lr_range": "gradscape.measure.lr_range.lr_range",
    "noise": "gradscape.measure.noise",
    "replay": "gradscape.measure.replay",
    "save_html": "gradscape.report.pages.save",
    "smoothness": "gradscape.measure.smoothness.smoothness",
    "start_live": "gradscape.live.start",
    "to_markdown": "gradscape.report.markdown",
    "train_run": "gradscape.train.loop",
    "watch": "gradscape.measure.watch.watch",
    "watch_noise": "gradscape.measure.watch.watch_noise",
}
__all__ = [
    "DataConfig",
    "FlowRecorder",
    "GradscapeError",
    "Limits",
    "NetConfig",
    "OptimConfig",
    "Ranks",
    "RunConfig",
    "RunFolder",
    "Sweep",
    "check",
    "compare",
    "coordinate_check",
    "curvature",
    "diagnose",
    "landscape",
    "load",
    "load_images",
    "lr_range",
    "noise",
    "replay",
    "save_html",
    "smoothness",
    "start_live",
    "to_markdown",
    "train_run",
    "watch",
    "watch_noise",
]


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module 'gradscape' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
