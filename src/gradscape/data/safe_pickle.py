"""Read a pickle of plain values and numpy arrays, and nothing else."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from gradscape.errors import DataError


def read_pickle(content: bytes, name: str) -> Any:
    """Unpickle `content`, refusing everything but plain values and numpy arrays.

    A pickle can name any function to be called while it is read. Only the three that rebuild an array are
    allowed here, and the text encoding that pickles of Python 2 need.

    Args:
        content: Bytes of the pickle.
        name: File name, for messages.

    Raises:
        DataError: If the pickle names anything else, or cannot be read.

    Example:
        >>> read_pickle(pickle.dumps({"labels": [1, 2]}), "example")
        {'labels': [1, 2]}
    """
    try:
        return _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Exception as error:  # damaged pickles raise nearly any exception
        raise DataError(
            f"{name} is not a readable pickle ({type(error).__name__}: {error}); "
            "delete it and fetch it again with --download"
        ) from error


def _encode(text: str, encoding: str) -> bytes:
    """Replace `codecs.encode` for the one encoding in numpy's pickles; others can expand or run code."""
    assert encoding in ("latin1", "latin-1"), f"encoding {encoding}"
    return text.encode("latin1")


# Pickled by numpy 1 and 2: the module was renamed between them.
_reconstruct = np.empty(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise DataError(
                f"the pickle calls {module}.{name}, which does not belong in an image file and was "
                "not run; delete the file and fetch it again with --download"
            )
        return _ALLOWED[module, name]
