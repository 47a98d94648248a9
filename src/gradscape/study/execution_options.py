"""Options of the execution of a study's runs.

Annotations are types, not text: a class that inherits them in another module has other names at hand.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gradscape.config.fields import MOST_WORKERS, option
from gradscape.config.options import MOST_SECONDS, Options
from gradscape.errors import ConfigError, nearest

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class DataSource(Options):
    """Device, and place of CIFAR's images."""

    device: Device = option("auto", "where to compute")
    data_root: str | Path | None = option(None, "folder that holds CIFAR")
    download: bool = option(False, "fetch CIFAR where it is not found")
    mirrors: tuple[str, ...] = option((), "addresses to fetch it from, instead of its author's")


@dataclass(frozen=True, kw_only=True)
class Execution(DataSource):
    """Place and manner in which a study is run; its results do not depend on them.

    On CPUs each worker is a process of one thread, on a GPU a thread with a stream, which nothing can end:
    `epoch_limit` is for CPUs alone. After its default of two hours no hung worker stays, and no working epoch
    is cut.
    """

    workers: int | None = option(
        None,
        "runs side by side (default: one per core; on a GPU as many as make it faster)",
        1,
        MOST_WORKERS,
    )
    stop_hopeless: bool = option(False, "end runs early that guess, their gradients vanished")
    asha: bool = option(False, "end runs early that fall behind (successive halving, by Optuna)")
    epoch_limit: float = option(
        7_200.0, "seconds an epoch may take before its worker counts as hung", 0, MOST_SECONDS
    )
    on: str = option("local", "local, ray (this machine's cluster) or ray://HOST:PORT")
    cpus_per_run: float = option(1.0, "CPUs of a Ray node", 0, math.inf)
    gpus_per_run: float = option(0.0, "GPUs of a Ray node; 0.25 lets four runs share one")

    @property
    def stops_early(self) -> bool:
        """True if runs may be stopped early; one that was, by this command or another, then stays so."""
        return self.stop_hopeless or self.asha

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on not in ("local", "ray") and not self.on.startswith("ray://"):
            raise ConfigError(
                f"--on: {self.on!r} is not local, ray or ray://HOST:PORT{nearest(self.on, ('local', 'ray'))}"
            )
        if self.on != "local" and self.workers is not None:
            raise ConfigError(
                "--workers: a cluster has as many as it has room for; give --cpus-per-run instead"
            )
        if self.on != "local" and self.asha:
            raise ConfigError(f"--asha: runs on {self.on} cannot be ended from here; give --on local")
        gpus = self.gpus_per_run
        if not (0 <= gpus <= 1 or (gpus < math.inf and gpus.is_integer())):
            raise ConfigError(f"--gpus-per-run: expected 0 … 1, or a whole number; got {gpus:g}")
