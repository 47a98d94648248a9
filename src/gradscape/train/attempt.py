"""One attempt at a run: what stands before and after its epochs, and its status."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from gradscape.config.run import RunConfig
from gradscape.data import STATISTICS, ImageSet, split
from gradscape.data.device_batches import DeviceImages, EpochDraw, epoch_draw, eval_batches
from gradscape.errors import StoreError
from gradscape.measure.diagnose.diagnose import diagnose
from gradscape.records.run import EpochRecord, Phase, Progress
from gradscape.storage.run_folder import RunFolder
from gradscape.train.early_stop import PATIENCE, Stopped, hopeless
from gradscape.train.epoch import TrainedEpoch
from gradscape.train.fusion import can_fuse
from gradscape.train.measurements import (
    IMAGES,
    ProgressCallback,
    keep_weights,
    measure_curvature,
    measure_landscape,
    measure_noise,
    measure_start,
)
from gradscape.train.model import scale_lsuv
from gradscape.train.precision import Arithmetic
from gradscape.train.process import environment, lock_gpu
from gradscape.train.state import TrainState
from gradscape.train.step import LabeledBatch, evaluate

# Images evaluated at once. On a CPU the activations of 50 stay in the cache: three times faster than 1,000.
EVAL_BATCH = {"cpu": 50, "cuda": 1_250}


class _Diverged(Exception):
    """The loss stopped being a finite number."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"the loss is not finite in epoch {epoch}, step {step}")
        self.epoch, self.step = epoch, step


class Attempt:
    """Attempt at a run whose folder is locked; `begin`, then epochs while `left`, then `end`.

    Args:
        config: Configuration of the run.
        folder: Folder of the run.
        images: Data set of the run.
        device: Device of the run.
        how: Precision and fusion; a run that was begun goes on with its own.
        report: Function called with a `Progress`, or with a sentence where there is news.
        stop_hopeless: Whether to end the run early if `hopeless` finds it so.
        packed: Whether its network is computed as one with others; a run that was begun goes on as it was.

    Attributes:
        threads: Number of threads that it was begun with.
        ended: True once its status says how it ended.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        images: ImageSet,
        device: torch.device,
        how: Arithmetic,
        report: ProgressCallback,
        stop_hopeless: bool = False,
        packed: bool = False,
    ) -> None:
        self.config, self.folder, self.device, self._caller = config, folder, device, report
        self.phase: Phase | None = None
        self.images, self.stop_hopeless, self.ended = images.averaged(config.data.size), stop_hopeless, False
        before = folder.status()
        folder.withdraw_stop()  # of an earlier attempt
        if "computed_in" in before:  # a timing on a busy machine must not change a run half-way
            fused = "fused" in before and can_fuse(device)
            how = Arithmetic(before["computed_in"], before["fallback"], fused)
            packed = "packed" in before and device.type == "cpu"
        self.how, self.packed = how, packed
        self.threads: int = before.get("threads", torch.get_num_threads())
        self.details = environment(device) | {"threads": self.threads}
        self.details |= {"attempts": before.get("attempts", 0) + 1}
        self.details |= {"computed_in": how.precision, "fallback": how.fallback}
        self.details |= {"fused": "BatchNorm with LeakyReLU"} if how.fused else {}
        self.details |= {"packed": True} if packed else {}

    def report(self, news: Progress | str) -> None:
        """Pass news on; the run's status has the phase, for those who only read the folder.

        Args:
            news: Progress, or a sentence.
        """
        if isinstance(news, Progress):
            self._enter(news.phase)
        self._caller(news)

    def _enter(self, phase: Phase) -> None:
        if self.phase != phase:
            self.phase = phase
            self.folder.set_status("running", **self.details, phase=phase)

    def begin(self) -> None:
        """Load what the run needs, measure its start, and go back to its last whole epoch."""
        config, folder, data, images = self.config, self.folder, self.config.data, self.images
        assert data.valid is not None
        assert data.crop_pad is not None
        chosen = split(images.train_labels, data.valid, data.split_seed, data.stratified)
        self.kept, self.mean_std = chosen.train[: data.train], STATISTICS[data.normalized_as]
        self.details |= {"split": chosen.method, "checksums": images.checksums}
        folder.set_status("running", **self.details)
        pool = images.train_images[self.kept], images.train_labels[self.kept]
        self.pool = DeviceImages.make(*pool, data.crop_pad, self.device)
        self.shown = EVAL_BATCH[self.device.type], *self.mean_std, self.device
        valid = chosen.valid
        valid_batches = eval_batches(images.train_images[valid], images.train_labels[valid], *self.shown)
        self.valid = list(valid_batches)
        self.state = TrainState(config, self.device)
        self._measure_start()
        self.epochs = folder.intact()  # epochs behind a damaged line are trained again
        if (checkpoint := folder.load(len(self.epochs))) is not None:
            self.state.restore(checkpoint)
        folder.keep(self.state.epoch)
        del self.epochs[self.state.epoch :]
        keep_weights(config, folder, self.state)
        if self.left:
            self._enter("training")

    def _measure_start(self) -> None:
        config, state = self.config, self.state
        if config.net.init == "lsuv":
            with lock_gpu(self.device):
                news = scale_lsuv(config, state.model, self._seen(config.batch_size)[0])
            if news:
                self.report(news)
        with lock_gpu(self.device):
            measure_start(config, self.folder, state, self._seen(IMAGES, IMAGES)[0], self.report)
        if config.curvature_images:
            with lock_gpu(self.device):
                seen = self._seen(config.curvature_images)
                measure_curvature(config, self.folder, "start", state, seen, self.report)

    def _seen(self, count: int, size: int = 0) -> list[LabeledBatch]:
        """Return the first training images, in mini-batches of the run's size or of another."""
        of = self.kept[:count]
        shown = self.images.train_images[of], self.images.train_labels[of], size or self.config.batch_size
        return list(eval_batches(*shown, *self.mean_std, self.device))

    @property
    def left(self) -> bool:
        """True while there are epochs to train."""
        return not self.ended and self.state.epoch < self.config.epochs

    def draw(self) -> EpochDraw:
        """Return the order, crops and flips of the next epoch."""
        data = self.config.data
        assert data.crop_pad is not None
        return epoch_draw(len(self.pool), self.config.seed, self.state.epoch, data.crop_pad, bool(data.flip))

    def finish_epoch(self, trained: TrainedEpoch) -> None:
        """Validate after an epoch, and store it; the run ends here if it diverged or is to stop.

        Args:
            trained: Results of its training.
        """
        start, state, count = time.perf_counter(), self.state, len(self.pool)
        if math.isfinite(trained.first_bad):
            raise _Diverged(state.epoch + 1, int(trained.first_bad))
        with lock_gpu(self.device):
            valid_loss, valid_accuracy = evaluate(state.model, self.valid, self.device, self.how.precision)
        if not math.isfinite(valid_loss):
            raise _Diverged(state.epoch + 1, math.ceil(count / self.config.batch_size))
        state.finish_epoch(valid_accuracy)
        epoch = EpochRecord(
            epoch=state.epoch,
            valid_loss=valid_loss,
            valid_accuracy=valid_accuracy,
            seconds=trained.seconds + time.perf_counter() - start,
            images_per_second=count / trained.seconds,
            **trained.measured,
        )
        self.epochs.append(epoch)
        self.folder.append(epoch, trained.flow)
        keep_weights(self.config, self.folder, state)
        self.folder.save(state.checkpoint())
        if (why := self._reason_to_stop()) and self.left:
            raise Stopped(why)

    def _reason_to_stop(self) -> str:
        why = self.folder.stop_reason()
        if why or not self.stop_hopeless:
            return why
        history = self.folder.flow(max(0, len(self.epochs) - PATIENCE))
        return "" if history is None else hopeless(self.config, self.epochs, history)

    def end(self) -> None:
        """Measure and test the trained weights; the run is done."""
        config, folder, state, report = self.config, self.folder, self.state, self.report
        held_out = eval_batches(self.images.test_images, self.images.test_labels, *self.shown)
        with lock_gpu(self.device):
            if config.curvature_images:
                measure_curvature(config, folder, "end", state, self._seen(config.curvature_images), report)
            if config.landscape_images:
                measure_landscape(config, folder, state, self._seen(config.landscape_images), report)
            if config.noise_batches:
                seen = self._seen(config.noise_batches * config.batch_size)
                measure_noise(config, folder, state, seen, report)
            report(Progress.measuring("test", config.epochs))
            self.details["test"] = _test(state, held_out, self.device, self.how.precision)
        self._set_ended("done")

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write into the run's status how the block ended; a divergence and a stop are no errors.

        An error is raised again. A run that has ended already is left as it is.
        """
        try:
            yield
        except _Diverged as end:
            self.details |= {"epoch": end.epoch, "step": end.step}
            self.ended = True  # even if its status cannot be written: no epoch follows
            self._set_ended("diverged")
        except Stopped as end:
            self.ended = True
            self.folder.set_status("stopped", **self.details, reason=str(end))
        except KeyboardInterrupt as end:
            if not self.ended:
                why = {"reason": str(end)} if str(end) else {}
                self.folder.set_status("interrupted", **self.details, **why)
            raise
        except Exception:
            if not self.ended:
                self._set_failed()
            raise

    def _set_ended(self, state: str) -> None:
        """Write the run's status with its diagnosis."""
        record = replace(self.folder.record(), state=state, status=self.details)
        diagnosis = replace(diagnose(record), profile=None)  # the gradients are in a file of their own
        self.folder.set_status(state, **self.details, diagnosis=diagnosis.to_dict())
        self.ended = True

    def _set_failed(self) -> None:
        """Record the traceback where the folder can still be written; what went wrong is raised anyway."""
        self.ended = True
        try:
            self.folder.set_status("failed", **self.details, error=traceback.format_exc())
        except StoreError:
            return


def _test(
    state: TrainState, batches: Iterable[LabeledBatch], device: torch.device, precision: str
) -> dict[str, dict[str, float]]:
    """Return test loss and accuracy of the last and of the best-validation weights."""
    images = list(batches)

    def measure(epoch: int) -> dict[str, float]:
        loss, accuracy = evaluate(state.model, images, device, precision)
        return {"epoch": epoch, "loss": loss, "accuracy": accuracy}

    last = measure(state.epoch)
    if state.best_epoch == state.epoch:
        return {"last": last, "best": last}
    state.model.load_state_dict(state.best_weights)
    return {"last": last, "best": measure(state.best_epoch)}
