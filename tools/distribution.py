"""Build wheel and source distribution, look what is in them, and install the wheel: `make dist`.

The wheel is installed into a virtual environment of its own, which borrows the libraries of this one;
with `--clean` it gets its own, pinned ones, which takes minutes. There the package is imported from the wheel
alone, its data are read, and a network is trained and diagnosed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
OUTSIDE = ("tests/", "benchmarks/", "docs/", "tools/", "results/", "examples/", ".ci/", ".github/")
NEEDED = ("gradscape/py.typed", "gradscape/data/digits.npz", "gradscape/data/DIGITS.md")
IN_SOURCE = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "NOTICE",
    "CHANGELOG.md",
    "constraints.txt",
    "tests/conftest.py",
)
TRY = """
import gradscape, torch
from pathlib import Path
assert Path(gradscape.__file__).is_relative_to({place!r}), gradscape.__file__
assert len(gradscape.load_images("digits").train_images) > 1_000
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
flow = gradscape.watch(model, optimizer)
for _ in range(3):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.arange(8) % 2).backward()
    optimizer.step()
assert gradscape.diagnose(flow).to_json()
flow.save_html("page.html")
"""


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command; where it fails, show what it printed and end.

    Args:
        command: Words of the command.
        cwd: Folder to run it in.
    """
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # it may name src/
    done = subprocess.run([*map(str, command)], cwd=cwd, env=own, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-3_000:]}{done.stderr[-3_000:]}")


def built() -> tuple[Path, Path]:
    """Build both, and return the paths of the wheel and the source distribution."""
    for old in [*DIST.glob("gradscape-*.whl"), *DIST.glob("gradscape-*.tar.gz")]:
        old.unlink()
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST)
    (wheel,), (source,) = DIST.glob("gradscape-*.whl"), DIST.glob("gradscape-*.tar.gz")
    return wheel, source


def complaints(wheel: Path, source: Path) -> list[str]:
    """Return what is missing from the two, and what should not be in the wheel.

    Args:
        wheel: Path of the wheel.
        source: Path of the source distribution.
    """
    inside = zipfile.ZipFile(wheel).namelist()
    ours = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    with tarfile.open(source) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    return [
        *(f"{wheel.name} holds {name}" for name in inside if name.startswith(OUTSIDE)),
        *(f"{wheel.name} lacks {name}" for name in sorted({*ours, *NEEDED} - set(inside))),
        *(f"{source.name} lacks {name}" for name in IN_SOURCE if name not in packed),
    ]


def install(wheel: Path, clean: bool) -> None:
    """Install the wheel into a virtual environment of its own, and use it there.

    Args:
        wheel: Path of the wheel.
        clean: Whether to install its libraries too, rather than to borrow this environment's.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "venv"
        venv.create(place, with_pip=True)
        python = place / "bin" / "python"
        constraints = ["--constraint", ROOT / "constraints.txt"] if clean else ["--no-deps"]
        run(python, "-m", "pip", "install", "--quiet", *constraints, wheel)
        if not clean:
            site = (
                place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
            )
            # Behind the wheel's own package: what a .pth file adds comes after the folder it lies in.
            (site / "borrowed.pth").write_text(
                f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
            )
        run(python, "-c", TRY.format(place=str(place)), cwd=Path(folder))
        run(place / "bin" / "gradscape", "--version", cwd=Path(folder))


def main() -> None:
    """Build, look, install."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clean", action="store_true", help="install the libraries too: minutes")
    clean = parser.parse_args().clean
    if missing := [name for name in ("build", "hatchling") if importlib.util.find_spec(name) is None]:
        sys.exit(f"a distribution needs {', '.join(missing)}; type: make dist, or pip install '.[release]'")
    wheel, source = built()
    if found := complaints(wheel, source):
        sys.exit("\n".join(found))
    install(wheel, clean)
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in (wheel, source))
    print(f"built, looked through, installed and used: {sizes}")


if __name__ == "__main__":
    main()
