"""What becomes of a run's files when its process is killed while it writes, and when bits flip on the disk.

`python benchmarks/integrity.py` kills a process 200 times while it writes VGG38's checkpoints and epochs,
harms a run's checkpoint, metrics and gradients 1,000 times, and 250 times each other file of a study that is
then read whole: a bit flipped, or the end cut off, at random. It writes `results/integrity.json` and, of the
other files, `results/integrity_others.json`.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gradscape.config.run import RunConfig
from gradscape.data import load_images
from gradscape.errors import StoreError
from gradscape.records.gradients import EPOCH_TABLES, FlowHistory, flow_of_epochs
from gradscape.records.run import EpochRecord
from gradscape.storage.checkpoint import Checkpoint
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder
from gradscape.study.plan import ask
from gradscape.study.sweep.sweep import Sweep
from gradscape.train.loop import train_run
from measure import write

VALUES = 1_350_000  # of a checkpoint: VGG38's weights, the best ones, Adam's two moments: 5.4 million bytes
OTHERS = ("config.json", "status.json", "start.json", "curvature.json", "landscape.json", "noise.json")
SMALL = {
    "net.depth": 8, "net.filters": 4, "net.norm_where": "everywhere", "data.train": 60, "batch_size": 20,
    "epochs": 2, "keep_every": 1, "curvature_images": 20, "landscape_images": 20, "noise_batches": 3,
}  # fmt: skip
LAYERS = 117  # parameter tensors of VGG38 with BatchNorm


def epoch(number: int) -> EpochRecord:
    return EpochRecord(number, 0.1, 2.0, 0.5, 2.0, 0.5, 1.0, 1.0)


def flow(number: int) -> FlowHistory:
    names = [f"stages.{layer}.weight" for layer in range(LAYERS)]
    tables = np.empty((1, len(EPOCH_TABLES), LAYERS))
    tables[:] = number + np.arange(LAYERS)
    return flow_of_epochs(names, ["conv"] * LAYERS, [9] * LAYERS, [number], tables)


def checkpoint(number: int) -> Checkpoint:
    return Checkpoint(number, {"w": np.full(VALUES, number, np.float32)}, {"epoch": number})


def write_on(folder: RunFolder) -> None:
    """Train on for ever, as far as the files are concerned; a dot on stdout for every epoch begun."""
    done = folder.load(len(folder.intact()))
    first = 1 if done is None else done.epoch + 1
    folder.keep(first - 1)
    for number in itertools.count(first):
        sys.stdout.write(".")
        sys.stdout.flush()
        folder.append(epoch(number), flow(number))
        folder.save(checkpoint(number))


@dataclass
class Kills:
    """What was found after kills: runs that could not go on, parts under names that nothing reads."""

    kills: int = 0
    unusable: int = 0
    parts_aside: int = 0
    epochs_lost_at_most: int = 0


def kill(folder: RunFolder, times: int, generator: random.Random) -> Kills:
    found, reached = Kills(), 0
    for _ in range(times):
        process = subprocess.Popen(
            [sys.executable, __file__, "--write", str(folder.path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.read(2)  # it is in its second epoch now
        time.sleep(generator.uniform(0, 0.03))  # an epoch's files take about 0.02 s
        process.kill()
        begun = 2 + len(process.communicate()[0])
        found.kills += 1
        found.parts_aside += any(path.name.endswith(".part") for path in folder.checkpoints.iterdir())
        kept = folder.load(len(folder.intact()))
        if kept is None or kept.values["epoch"] != kept.epoch or not (kept.arrays["w"] == kept.epoch).all():
            found.unusable += 1
            continue
        found.epochs_lost_at_most = max(found.epochs_lost_at_most, reached + begun - kept.epoch)
        reached = kept.epoch
    return found


def harm(path: Path, generator: random.Random) -> None:
    """Flip a bit of the file, or cut its end off."""
    data = bytearray(path.read_bytes())
    if generator.random() < 0.5:
        place = generator.randrange(len(data))
        data[place] ^= 1 << generator.randrange(8)
    else:
        del data[generator.randrange(len(data)) :]
    path.write_bytes(data)


@dataclass
class Harms:
    """What was found after harms: unnoticed ones, and how often an earlier state was gone back to."""

    harms: int = 0
    unnoticed: int = 0
    earlier_used: int = 0
    nothing_left: int = 0


def damage(whole: RunFolder, aside: Path, times: int, generator: random.Random) -> dict[str, Harms]:
    """Harm the newest checkpoint or a file of epochs of a copy of a run, which has 3, each time anew."""
    found = {"checkpoint": Harms(), "metrics": Harms(), "gradients": Harms()}
    for number in range(times):
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(whole.path, aside)
        folder = RunFolder(aside)
        kind = list(found)[number % len(found)]
        path = folder.checkpoint_files()[0] if kind == "checkpoint" else aside / f"{kind}.jsonl"
        harm(path, generator)
        count = found[kind]
        count.harms += 1
        intact = folder.intact()
        good = intact == [epoch(n) for n in range(1, len(intact) + 1)]
        kept = folder.load(len(intact))
        good &= kept is None or bool((kept.arrays["w"] == kept.epoch).all())
        count.unnoticed += not good or (kept is not None and kept.epoch == 3) or reported(folder, kind)
        count.earlier_used += kept is not None and kept.epoch < 3
        count.nothing_left += kept is None
    return found


def finished_study(place: Path) -> StudyFolder:
    """A sweep of one small run with every file that there is."""
    study = Sweep.from_dict({"name": "small", "base": SMALL, "axes": [{"net.norm": ["batch"]}], "seeds": 1})
    folder = StudyFolder(place)
    with folder.locked():
        ask(folder, study)
    for identity, config in study.runs().items():
        train_run(config, folder.run(identity), load_images("digits"))
    return folder


def damage_others(study: StudyFolder, times: int, generator: random.Random) -> dict[str, dict[str, int]]:
    """Harm a file of a finished study and read it whole, each kind of file so many times."""
    (run,) = (study.path / "runs").iterdir()
    before, found = whole_study(study), {}
    paths = {name: run / name for name in OTHERS} | {"weights": RunFolder(run).weights}
    for name, place in {"study.json": study.path / "study.json", **paths}.items():
        path = sorted(place.iterdir())[-1] if place.is_dir() else place
        data, unnoticed = path.read_bytes(), 0
        for _ in range(times):
            harm(path, generator)
            with suppress(StoreError):
                unnoticed += whole_study(study) != before
            path.write_bytes(data)
        found[name] = {"harms": times, "unnoticed": unnoticed}
    return found


def whole_study(study: StudyFolder) -> str:
    record = study.record()
    with np.printoptions(threshold=sys.maxsize, floatmode="unique"):  # else the middle of arrays is left out
        return repr([record.to_dict(), [study.run(name).kept_weights() for name in record.runs]])


def reported(folder: RunFolder, kind: str) -> bool:
    """Whether a report on the finished run would take its harmed files for whole."""
    if kind == "checkpoint":
        return False
    try:
        folder.record()
    except StoreError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="the part that is killed")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--harms", type=int, default=1_000)
    parser.add_argument("--others", type=int, default=250, help="harms to each other kind of file")
    given = parser.parse_args()
    if given.write:
        write_on(RunFolder(given.write))
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        found = damage_others(finished_study(Path(place)), given.others, generator)
    print(found)
    write("integrity_others", {"others": found})
    with tempfile.TemporaryDirectory() as place:
        killed = RunFolder(Path(place) / "killed")
        killed.create(RunConfig())
        kills = kill(killed, given.kills, generator)
        whole = RunFolder(Path(place) / "whole")
        whole.create(replace(RunConfig(), epochs=3))
        for number in (1, 2, 3):
            whole.append(epoch(number), flow(number))
            whole.save(checkpoint(number))
        whole.set_status("done")
        harms = damage(whole, Path(place) / "harmed", given.harms, generator)
    found = {"kills": vars(kills), "harms": {kind: vars(count) for kind, count in harms.items()}}
    print(found)
    write("integrity", {**found, "checkpoint_bytes": 4 * VALUES})


if __name__ == "__main__":
    main()
