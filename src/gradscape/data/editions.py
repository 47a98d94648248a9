"""CIFAR-10 and CIFAR-100 as published: which files, their checksums, how their bytes are laid out.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Form:
    """One form an edition is published in: a folder of files, and an archive of that folder.

    Attributes:
        kind: `pickle` (Python version) or `records` (binary version).
        folder: the folder's name, on disk and in the archive.
        archive, archive_md5: the `.tar.gz` and its published checksum.
        train, test: files that hold images, in order.
        names: the file that holds the class names.
        md5: file → published checksum; empty where none is published.
    """

    kind: str
    folder: str
    archive: str
    archive_md5: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    md5: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, *self.test, self.names)


@dataclass(frozen=True)
class Edition:
    """One data set and the forms it comes in.

    Attributes:
        name: such as `cifar100`.
        side: height and width of an image, pixels; an image is 3 planes of side × side bytes.
        label_limits: number of values of each label byte that precedes an image in a record; the
            last one is the label used (CIFAR-100's coarse label comes before the fine one).
        label_key, names_key: where the pickles hold the labels and the class names.
        train_count, test_count: images in each of the `train` and `test` files.
        forms: in the order in which they are looked for.
        mirrors: addresses of the archive of the form `download`.
    """

    name: str
    side: int
    label_limits: tuple[int, ...]
    label_key: str
    names_key: str
    train_count: int
    test_count: int
    forms: tuple[Form, ...]
    mirrors: tuple[str, ...]

    @property
    def classes(self) -> int:
        return self.label_limits[-1]

    @property
    def download(self) -> Form:
        """The form to fetch: the one whose reading needs no pickle."""
        return next(form for form in self.forms if form.kind == "records")


CIFAR100 = Edition(
    name="cifar100",
    side=32,
    label_limits=(20, 100),
    label_key="fine_labels",
    names_key="fine_label_names",
    train_count=50_000,
    test_count=10_000,
    forms=(
        Form(
            kind="pickle",
            folder="cifar-100-python",
            archive="cifar-100-python.tar.gz",
            archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
            train=("train",),
            test=("test",),
            names="meta",
            md5={
                "train": "16019d7e3df5f24257cddd939b257f8d",
                "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
                "meta": "7973b15100ade9c7d40fb424638fde48",
            },
        ),
        Form(
            kind="records",
            folder="cifar-100-binary",
            archive="cifar-100-binary.tar.gz",
            archive_md5="03b5dce01913d631647c71ecec9e9cb8",
            train=("train.bin",),
            test=("test.bin",),
            names="fine_label_names.txt",
        ),
    ),
    mirrors=("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
)

CIFAR10 = Edition(
    name="cifar10",
    side=32,
    label_limits=(10,),
    label_key="labels",
    names_key="label_names",
    train_count=10_000,
    test_count=10_000,
    forms=(
        Form(
            kind="pickle",
            folder="cifar-10-batches-py",
            archive="cifar-10-python.tar.gz",
            archive_md5="c58f30108f718f92721af3b95e74349a",
            train=tuple(f"data_batch_{part}" for part in range(1, 6)),
            test=("test_batch",),
            names="batches.meta",
            md5={
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "40351d587109b95175f43aff81a1287e",
                "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
            },
        ),
        Form(
            kind="records",
            folder="cifar-10-batches-bin",
            archive="cifar-10-binary.tar.gz",
            archive_md5="c32a1d4ab5d03f1284b67883e8d87530",
            train=tuple(f"data_batch_{part}.bin" for part in range(1, 6)),
            test=("test_batch.bin",),
            names="batches.meta.txt",
        ),
    ),
    mirrors=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
)

EDITIONS: dict[str, Edition] = {edition.name: edition for edition in (CIFAR10, CIFAR100)}
