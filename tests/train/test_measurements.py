"""Curvature before and after a training: gs.curvature's own numbers, and nothing changed by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import gradscape as gs
from cases import TINY
from gradscape.data import STATISTICS, split
from gradscape.data.device_batches import eval_batches
from gradscape.errors import ConfigError, StoreError
from gradscape.records.curvature import CurvatureRecord
from gradscape.storage.json_files import read_json, write_json
from gradscape.storage.run_folder import RunFolder
from gradscape.train import attempt
from gradscape.train import measurements as moments
from gradscape.train.model import build_model
from gradscape.train.state import TrainState, section

SMALL = gs.RunConfig(
    net=TINY.net,
    data=gs.DataConfig(name="digits", train=90, valid=40),
    batch_size=20,
    epochs=2,
)
MEASURED = replace(SMALL, curvature_images=30)


@pytest.mark.slow
def test_both_moments_are_what_gs_curvature_finds(tmp_path: Path) -> None:
    folder, images = RunFolder(tmp_path / "run"), gs.load_images("digits")
    record = gs.train_run(MEASURED, folder, images)
    assert list(record.curvature) == ["start", "end"]
    data = MEASURED.data
    kept = split(images.train_labels, 40, data.split_seed, data.stratified).train[:30]
    mean_std, cpu = STATISTICS[data.normalized_as], torch.device("cpu")
    batches = list(eval_batches(images.train_images[kept], images.train_labels[kept], 20, *mean_std, cpu))
    assert [len(y) for _, y in batches] == [20, 10]
    state = TrainState(MEASURED, cpu)
    models = {"start": build_model(MEASURED, cpu), "end": state.model}
    checkpoint = folder.load()
    assert checkpoint is not None
    state.restore(checkpoint)
    for moment, found in record.curvature.items():
        expected = gs.curvature(models[moment], cross_entropy, batches, 1, bn="batch", tolerance=1e-6)
        assert expected.ends is not None
        assert (found.samples, found.parameters) == (30, expected.parameters)
        assert found.loss == pytest.approx(expected.loss)
        assert abs(found.largest - expected.ends.largest[0]) <= found.ends.largest_residuals[0] + 1e-4
        assert abs(found.smallest - expected.ends.smallest[0]) <= found.ends.smallest_residuals[0] + 1e-4
        assert len(found.spectrum.nodes) == len(found.spectrum.weights) == moments.PROBES
        assert found.spectrum.weights[0].sum() == pytest.approx(1)
        assert found.spectrum.nodes.max() <= found.largest + found.ends.largest_residuals[0] + 1e-4


@pytest.mark.slow
def test_weights_end_as_without_it(tmp_path: Path) -> None:
    images, ends = gs.load_images("digits"), []
    for config in (SMALL, MEASURED):
        folder = RunFolder(tmp_path / config.identity)
        gs.train_run(config, folder, images)
        checkpoint = folder.load()
        assert checkpoint is not None
        ends.append(checkpoint.arrays)
    assert all(np.array_equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert SMALL.identity != MEASURED.identity


def timeless(found: CurvatureRecord) -> CurvatureRecord:
    """The same, however long it took."""
    return replace(found, seconds=0.0)


@pytest.mark.slow
def test_a_killed_run_measures_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, images = RunFolder(tmp_path / "run"), gs.load_images("digits")

    def dies(*_: Any, **__: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(attempt, "_test", dies)
        with pytest.raises(RuntimeError, match="killed"):
            gs.train_run(MEASURED, folder, images)
    before = {moment: timeless(found) for moment, found in folder.curvature().items()}
    values = read_json(folder.path / "curvature.json")
    del values["end"]  # as if it had been killed before
    write_json(folder.path / "curvature.json", values)
    record = gs.train_run(MEASURED, folder, images)
    assert list(record.curvature) == ["start", "end"]
    assert {moment: timeless(found) for moment, found in record.curvature.items()} == before


def test_a_loss_without_curvature_is_told_and_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise ConfigError("the loss is nan")

    monkeypatch.setattr(moments, "curvature", refuses)
    heard: list[Any] = []
    record = gs.train_run(
        MEASURED, RunFolder(tmp_path / "run"), gs.load_images("digits"), report=heard.append
    )
    assert record.state == "done"
    assert record.curvature == {}
    assert [each for each in heard if isinstance(each, str)] == [
        "no curvature at the start: the loss is nan", "no curvature at the end: the loss is nan",
    ]  # fmt: skip


def test_more_images_than_there_are_are_refused() -> None:
    with pytest.raises(ConfigError, match="curvature_images: expected 0 … 90, the number"):
        replace(SMALL, curvature_images=91)


@pytest.mark.slow
def test_the_landscape_is_what_gs_landscape_finds(tmp_path: Path) -> None:
    config = replace(SMALL, landscape_images=40, keep_every=2, seed=3)
    folder, images = RunFolder(tmp_path / "run"), gs.load_images("digits")
    record = gs.train_run(config, folder, images)
    found = record.landscape
    assert found is not None
    kept = split(images.train_labels, 40, config.data.split_seed, config.data.stratified).train[:40]
    shown = images.train_images[kept], images.train_labels[kept], 20
    batches = list(eval_batches(*shown, *STATISTICS[config.data.normalized_as], torch.device("cpu")))
    model = build_model(config, torch.device("cpu"))
    model.load_state_dict(section(folder.kept_weights()[2], ""))
    expected = gs.landscape(model, cross_entropy, batches, points=moments.POINTS, bn="batch", seed=3)
    assert found.loss[found.measured] == pytest.approx(expected.loss[found.measured], rel=1e-5)
    assert found.evaluations < 0.6 * expected.evaluations
    assert np.abs(found.loss / expected.loss - 1).max() < 2 * moments.ACCURACY
    assert found.check is not None


def test_the_noise_is_what_gs_noise_finds(tmp_path: Path) -> None:
    config = replace(SMALL, noise_batches=4, keep_every=2)
    folder, images = RunFolder(tmp_path / "run"), gs.load_images("digits")
    record = gs.train_run(config, folder, images)
    found = record.noise
    assert found is not None
    kept = split(images.train_labels, 40, config.data.split_seed, config.data.stratified).train[:80]
    shown = images.train_images[kept], images.train_labels[kept], 20
    batches = list(eval_batches(*shown, *STATISTICS[config.data.normalized_as], torch.device("cpu")))
    model = build_model(config, torch.device("cpu"))
    model.load_state_dict(section(folder.kept_weights()[2], ""))
    expected = gs.noise(model, cross_entropy, batches)
    assert (found.record.products.shape, found.record.batch_size) == ((4, 4), 20)
    assert found.record.products == pytest.approx(expected.products, rel=1e-3, abs=1e-9)
    assert 20 * found.record.batch_trace == pytest.approx(expected.noise_trace, rel=1e-3)
    assert record.to_dict()["noise"] == found.to_dict()
    sizes = [size for size, _ in found.traces]
    assert sizes == [20, 10, 5]  # the same images at the same weights
    for size, trace in found.traces:
        smaller = [(x[at : at + size], y[at : at + size]) for x, y in batches for at in range(0, 20, size)]
        assert size * trace == pytest.approx(gs.noise(model, cross_entropy, smaller).noise_trace, rel=1e-3)


def test_a_killed_run_does_not_measure_its_noise_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, images = replace(SMALL, noise_batches=2), gs.load_images("digits")
    folder = RunFolder(tmp_path / "run")

    def dies(*_: Any, **__: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(attempt, "_test", dies)
        with pytest.raises(RuntimeError, match="killed"):
            gs.train_run(config, folder, images)
    before = folder.noise()
    assert before is not None
    monkeypatch.setattr(moments, "noise", dies)
    assert gs.train_run(config, folder, images).noise == before


def test_a_gradient_without_noise_is_told_and_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two mini-batches the second is half: there are no two of one size."""
    config = replace(SMALL, data=replace(SMALL.data, train=30), noise_batches=2)
    heard: list[Any] = []
    record = gs.train_run(config, RunFolder(tmp_path), gs.load_images("digits"), report=heard.append)
    assert (record.state, record.noise) == ("done", None)
    (said,) = [each for each in heard if isinstance(each, str)]
    assert said.startswith("no gradient noise: batches: expected at least 2 of one size")


def test_mini_batches_of_one_image_have_noise(tmp_path: Path) -> None:
    data, net = replace(SMALL.data, train=8), replace(SMALL.net, norm="none")
    config = replace(SMALL, net=net, data=data, batch_size=1, epochs=1, noise_batches=4)
    record = gs.train_run(config, RunFolder(tmp_path), gs.load_images("digits"))
    assert record.noise is not None
    assert record.noise.traces == ((1, record.noise.record.batch_trace),)


def test_weights_are_kept_from_before_the_first_epoch_to_the_last(tmp_path: Path) -> None:
    config = replace(SMALL, epochs=3, keep_every=2)
    folder = RunFolder(tmp_path / "run")
    gs.train_run(config, folder, gs.load_images("digits"))
    weights, checkpoint = folder.kept_weights(), folder.load()
    assert checkpoint is not None
    assert list(weights) == [0, 2, 3]
    fresh = build_model(config, torch.device("cpu")).state_dict()
    assert all(np.array_equal(weights[0][name], value.numpy()) for name, value in fresh.items())
    assert all(
        np.array_equal(value, checkpoint.arrays[f"model.{name}"]) for name, value in weights[3].items()
    )
    assert gs.RunConfig().identity == replace(gs.RunConfig(), keep_every=0, landscape_images=0).identity
    torn = next((folder.path / "weights").glob("epoch-0002.*"))
    torn.write_bytes(torn.read_bytes()[:-1])
    with pytest.raises(StoreError, match="its bytes do not match its name; delete the folder"):
        folder.kept_weights()  # a path without it would be another one
