"""The paper's net on real CIFAR-100, where it is at hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from gradscape.config.network import NetConfig
from gradscape.config.run import DataConfig, RunConfig
from gradscape.data import load_images
from gradscape.storage.run_folder import RunFolder
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.train.loop import train_run


@pytest.mark.slow
def test_two_epochs_of_vgg38_with_batchnorm_on_a_subset(tmp_path: Path, cifar100_root: Path) -> None:
    images = load_images("cifar100", cifar100_root)
    images = replace(images, test_images=images.test_images[:500], test_labels=images.test_labels[:500])
    data = DataConfig(name="cifar100", train=600, valid=200, statistics="cifar10")
    config = RunConfig(net=NetConfig(depth=38, norm="batch"), data=data, batch_size=50, epochs=2)
    record = train_run(config, RunFolder(tmp_path / "run"), images)
    assert record.state == "done"
    for epoch in record.epochs:  # 24 updates: at chance, but alive
        assert abs(epoch.train_loss - math.log(100)) < 0.5
    sizes = record.flow.mean_abs[:, record.flow.weights]
    assert 1e-4 < sizes.min() < sizes.max() < 1
    assert record.status["checksums"]["train"] == "md5:16019d7e3df5f24257cddd939b257f8d"
    assert record.test["last"]["loss"] == pytest.approx(math.log(100), abs=0.5)


@pytest.mark.slow
def test_the_paper_split_of_the_real_images(cifar100_root: Path) -> None:
    images = load_images("cifar100", cifar100_root)
    data = BATCHNORM.plan("paper", None, 1).configs["vgg38"].data
    assert data.train is not None
    assert data.valid is not None
    assert data.train + data.valid == len(images.train_images) == 50_000
    assert len(images.test_images) == 10_000
