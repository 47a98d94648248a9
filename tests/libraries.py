"""Libraries that tests can do without: what is skipped where one is missing, and how to get it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

# The extra of pyproject.toml that brings each; those of other projects are installed by their own names.
EXTRAS = {
    "lightning": "lightning", "pytorch_lightning": "lightning", "transformers": "transformers",
    "accelerate": "transformers", "tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow",
    "trackio": "trackio", "starlette": "live", "ray": "ray", "optuna": "optuna", "pandas": "pandas",
    "curvlinops": "compare", "pyhessian": "compare", "loss_landscapes": "compare",
}  # fmt: skip
OF_DEV = (
    "pytorch_lightning", "transformers", "tensorboard", "wandb", "mlflow", "ray", "optuna", "pandas",
    "nbconvert", "ipykernel",
)  # fmt: skip


def why(library: str) -> str:
    """The reason of a skipped test, with what to type."""
    wanted = f"'.[{EXTRAS[library]}]'" if library in EXTRAS else library
    return f"{library} is not installed; type: pip install {wanted}"


def needs(*libraries: str) -> pytest.MarkDecorator:
    """Skip a test where none of these is installed."""
    missing = not any(find_spec(library) for library in libraries)
    return pytest.mark.skipif(missing, reason=why(libraries[0]))


def skip_without(library: str) -> None:
    """Skip the rest of a test, or of a module as it is imported, where a library is missing."""
    if find_spec(library) is None:
        pytest.skip(why(library), allow_module_level=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End a round with one line on what it could not test."""
    if missing := [library for library in OF_DEV if find_spec(library) is None]:
        terminalreporter.write_line(
            f"not installed, and their tests skipped: {', '.join(missing)}; type: pip install '.[dev]'"
        )
