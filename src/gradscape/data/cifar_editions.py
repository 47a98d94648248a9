"""CIFAR-10 and CIFAR-100 as published: files, checksums, layout of their bytes.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Form:
    """One published form of an edition: a folder of files, and an archive of that folder.

    Attributes:
        kind: `pickle` (Python version) or `records` (binary version).
        folder: Name of the folder, on disk and in the archive.
        archive, archive_md5, archive_size: Name of the `.tar.gz`, its published checksum, its bytes.
        train, test: Files with images, in order.
        names: File with the class names.
        checksums: Map file → kind:digest. The author publishes MD5 of the Python version's files.
    """

    kind: str
    folder: str
    archive: str
    archive_md5: str
    archive_size: int
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    checksums: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all its files."""
        return (*self.train, *self.test, self.names)


@dataclass(frozen=True)
class Edition:
    """One data set and its published forms.

    Attributes:
        name: Name such as `cifar100`.
        side: Height and width of an image, pixels; an image is 3 planes of side × side bytes.
        label_limits: Number of values of each label byte that precedes an image in a record; the
            last one is the label used (CIFAR-100's coarse label comes before the fine one).
        label_key, names_key: Keys of the labels and of the class names in the pickles.
        names_sha256: Digest of the class names in order, a line each; their files differ in line ends.
        train_count, test_count: Images in each of the `train` and `test` files.
        forms: Published forms, in the order of the search.
        mirrors: URLs of the archive of the form `download`.
    """

    name: str
    side: int
    label_limits: tuple[int, ...]
    label_key: str
    names_key: str
    names_sha256: str
    train_count: int
    test_count: int
    forms: tuple[Form, ...]
    mirrors: tuple[str, ...]

    @property
    def classes(self) -> int:
        """Number of classes of the labels that are used."""
        return self.label_limits[-1]

    @property
    def download(self) -> Form:
        """Form to download: the one without pickles."""
        return next(form for form in self.forms if form.kind == "records")


CIFAR100 = Edition(
    name="cifar100",
    side=32,
    label_limits=(20, 100),
    label_key="fine_labels",
    names_key="fine_label_names",
    names_sha256="fbe8ad23bbaf24969898a386833b49c3aaf6ad1119d43f7b41cdea1b3416d578",
    train_count=50_000,
    test_count=10_000,
    forms=(
        Form(
            kind="pickle",
            folder="cifar-100-python",
            archive="cifar-100-python.tar.gz",
            archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
            archive_size=169_001_437,
            train=("train",),
            test=("test",),
            names="meta",
            checksums={
                "train": "md5:16019d7e3df5f24257cddd939b257f8d",
                "test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
                "meta": "md5:7973b15100ade9c7d40fb424638fde48",
            },
        ),
        Form(
            kind="records",
            folder="cifar-100-binary",
            archive="cifar-100-binary.tar.gz",
            archive_md5="03b5dce01913d631647c71ecec9e9cb8",
            archive_size=168_513_733,
            train=("train.bin",),
            test=("test.bin",),
            names="fine_label_names.txt",
            # Computed from the verified files of the Python version: per image the coarse label, the fine
            # label and the pixels. Their SHA-1 agree with those in Apache MXNet.
            checksums={
                "train.bin": "sha256:f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
                "test.bin": "sha256:d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
            },
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
    names_sha256="bb3914949cecedee6d1257f7f5fdb8f43fa3b2c8095fd1763161caf1b873fe59",
    train_count=10_000,
    test_count=10_000,
    forms=(
        Form(
            kind="pickle",
            folder="cifar-10-batches-py",
            archive="cifar-10-python.tar.gz",
            archive_md5="c58f30108f718f92721af3b95e74349a",
            archive_size=170_498_071,
            train=tuple(f"data_batch_{part}" for part in range(1, 6)),
            test=("test_batch",),
            names="batches.meta",
            checksums={
                "data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
                "data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "md5:634d18415352ddfa80567beed471001a",
                "data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "md5:40351d587109b95175f43aff81a1287e",
                "batches.meta": "md5:5ff9c542aee3614f3951f8cda6e48888",
            },
        ),
        Form(
            kind="records",
            folder="cifar-10-batches-bin",
            archive="cifar-10-binary.tar.gz",
            archive_md5="c32a1d4ab5d03f1284b67883e8d87530",
            archive_size=170_052_171,
            train=tuple(f"data_batch_{part}.bin" for part in range(1, 6)),
            test=("test_batch.bin",),
            names="batches.meta.txt",
            # From Apache MXNet, python/mxnet/gluon/data/vision/datasets.py, whose CIFAR-100 agrees with ours.
            checksums={
                "data_batch_1.bin": "sha1:aadd24acce27caa71bf4b10992e9e7b2d74c2540",
                "data_batch_2.bin": "sha1:c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
                "data_batch_3.bin": "sha1:1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
                "data_batch_4.bin": "sha1:aab85764eb3584312d3c7f65fd2fd016e36a258e",
                "data_batch_5.bin": "sha1:26e2849e66a845b7f1e4614ae70f4889ae604628",
                "test_batch.bin": "sha1:67eb016db431130d61cd03c7ad570b013799c88c",
            },
        ),
    ),
    mirrors=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
)

EDITIONS: dict[str, Edition] = {edition.name: edition for edition in (CIFAR10, CIFAR100)}
