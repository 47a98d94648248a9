"""Read a pickle that holds plain values and numpy arrays, and nothing else."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from gradscape.errors import DataError


def read_pickle(content: bytes, name: str) -> Any:
    """Unpickle `content`, refusing whatever is not a plain value or a numpy array.

    A pickle can name any function to be called while it is read. Here only the three that rebuild
    an array are admitted, and the encoding of text that Python 2's pickles need.

    Args:
        content: the whole pickle.
        name: the file, for the message.

    Raises:
        DataError: the pickle asks for anything else, or cannot be read.

    Example:
        >>> read_pickle(pickle.dumps({"labels": [1, 2]}), "example")
        {'labels': [1, 2]}
    """
    try:
        return _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Exception as error:  # damaged pickles raise nearly any exception, ours to translate
        raise DataError(
            f"{name} is not a readable pickle ({type(error).__name__}: {error}); "
            "delete it and fetch it again with --download"
        ) from error


def _encode(text: str, encoding: str) -> bytes:
    """`codecs.encode` for the one encoding numpy's pickles use; others can expand or run code."""
    assert encoding in ("latin1", "latin-1"), f"encoding {encoding}"
    return text.encode("latin1")


# Pickled by numpy 1 and 2: the module was renamed between them.
_reconstruct = np.empty(0).__reduce__()[0]
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise DataError(
                f"the pickle asks for {module}.{name}, which is no part of an image file and was "
                "not run; delete the file and fetch it again with --download"
            )
        return _ADMITTED[module, name]
