"""Which library makes the command line? The same one by argparse, cyclopts and tyro, on what we ask of it.

`pip install tyro && python benchmarks/command_lines.py` builds `train`, with a flag for each setting of a
run, and `sweep`, with flags that take lists, by each of the three; asks them for help, with wrong input
and for completion; times gradscape's own help; and writes `results/command_lines.json`. Seconds are the
processor's, as a busy machine stretches the other ones.

Decision, on the numbers of 2026-11: cyclopts.
- argparse is quickest (0.10 s for the help of `train`, Python alone 0.01 s), and has neither types nor
  completion: of ours 217 lines read values, named what was near, and joined dotted names.
- tyro (0.22 s) prints a box and leaves by `sys.exit`, without an exception that a program could make one
  line of, and names a setting that a dataclass refuses `__tyro-dummy-inner__.run.net`. It alone finds
  `--optim.lr` for `--lr`.
- cyclopts (0.31 s) raises exceptions that hold flag, text and
  type, imports a command's module when it is called, and takes help from the fields' metadata. What it
  lacks is little: the lists of each `--zip` apart (8 lines), the nearest flag for the end of a dotted name
  (6 lines), a flag that is given twice (an option of its own).
gradscape's own help takes 0.15 s, that of `train` 0.27 s, of `sweep` 0.30 s.
Both complete in bash, zsh and fish, and keep to 80 columns; argparse's usage does not.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import os
import re
import resource
import subprocess
import sys
import tempfile
import typing
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Annotated, Any

from gradscape.config.run import RunConfig
from measure import spread, write

WRONG = {
    "slip of a flag": ["train", "--net.dept", "8"],
    "end of a dotted flag": ["train", "--lr", "0.1"],
    "wrong type": ["train", "--net.depth", "x"],
    "wrong choice": ["train", "--net.norm", "bach"],
    "refused by the configuration": ["train", "--net.depth", "37"],
    "slip of a command": ["trian"],
    "no value": ["train", "--optim.lr"],
}
RIGHT = {
    "both spellings": (["train", "--batch_size", "5", "--net.norm-where", "everywhere"], "batch_size=5"),
    "default that follows": (["train", "--epochs", "7"], "period=7"),
    "negative numbers": (["sweep", "--span", "-1", "1"], "(-1.0, 1.0)"),
    "repeated lists": (["sweep", "--axis", "a=1,2", "--axis", "b=3"], "('a=1,2', 'b=3')"),
    "lists apart": (
        ["sweep", "--zip", "a=1", "b=2", "--zip", "c=3", "d=4"],
        "(('a=1', 'b=2'), ('c=3', 'd=4'))",
    ),
}
SHELLS = ("bash", "zsh", "fish")


def by_argparse(arguments: list[str]) -> None:
    top = argparse.ArgumentParser(prog="app", allow_abbrev=False)
    commands = top.add_subparsers()
    train = commands.add_parser("train", help="train one run", allow_abbrev=False)

    def add(parser: Any, kind: type, prefix: str) -> None:
        hints = typing.get_type_hints(kind)
        for one in dataclasses.fields(kind):
            name, hint = f"{prefix}{one.name}", hints[one.name]
            if dataclasses.is_dataclass(hint):
                add(parser.add_argument_group(name), typing.cast(type, hint), f"{name}.")
                continue
            kinds = [each for each in typing.get_args(hint) or (hint,) if each is not type(None)]
            read = kinds[0] if kinds[0] in (int, float) else str
            choices = kinds if typing.get_origin(hint) is typing.Literal else None
            parser.add_argument(
                f"--{name.replace('_', '-')}", dest=name, type=read, choices=choices,
                help=one.metadata["help"].replace("%", "%%"),
            )  # fmt: skip

    add(train, RunConfig, "")
    sweep = commands.add_parser("sweep", help="sweep", allow_abbrev=False)
    sweep.add_argument("--axis", action="append")
    sweep.add_argument("--zip", action="append", nargs="+")
    sweep.add_argument("--span", nargs=2, type=float)
    values = vars(top.parse_args(arguments))
    given = {name: value for name, value in values.items() if value is not None}
    if arguments[0] != "train":
        print({key: tuple(tuple(v) if isinstance(v, list) else v for v in given[key]) for key in given})
        return
    from gradscape.config.serialize import from_dict
    from gradscape.config.text import nested

    print(from_dict(RunConfig, nested(given)))


def by_cyclopts(arguments: list[str]) -> None:
    from cyclopts import App, Parameter

    app = App(name="app", help_format="plaintext", default_parameter=Parameter(negative=()))

    def train(*, run: Any = None) -> None:
        """Train one run."""
        print(run or RunConfig())

    def apart(_: Any, tokens: Any) -> tuple[tuple[str, ...], ...]:
        starts = [n for n, token in enumerate(tokens) if token.index == 0] + [len(tokens)]
        words = [token.value for token in tokens]
        return tuple(tuple(words[a:b]) for a, b in pairwise(starts))

    def sweep(*, axis: Any = (), zip: Any = (), span: Any = None) -> None:
        print(axis, zip, span)

    train.__annotations__["run"] = Annotated[RunConfig | None, Parameter(name="*")]
    sweep.__annotations__ |= {
        "axis": tuple[str, ...],
        "zip": Annotated[tuple[tuple[str, ...], ...], Parameter(consume_multiple=True, converter=apart)],
        "span": tuple[float, float] | None,
    }
    app.command(train)
    app.command(sweep)
    if arguments[0] == "completion":
        print(app.generate_completion(shell=typing.cast(Any, arguments[1])))
        return
    app(arguments)


def by_tyro(arguments: list[str]) -> None:
    import tyro

    @dataclass(frozen=True)
    class Train:
        """Train one run."""

        run: Any  # of a default made at once the settings that follow from others would not follow

    @dataclass(frozen=True)
    class Sweep:
        axis: Any = ()
        zip: Any = ()
        span: Any = None

    Train.__annotations__["run"] = Annotated[RunConfig, tyro.conf.arg(name="")]
    Sweep.__annotations__.update(
        axis=tyro.conf.UseAppendAction[tuple[str, ...]],
        zip=tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]],
        span=tuple[float, float] | None,
    )
    for kind in (Train, Sweep):
        for one in dataclasses.fields(kind):
            one.type = kind.__annotations__[one.name]
    if arguments[0] == "completion":
        arguments = ["--tyro-print-completion", arguments[1]]
    print(tyro.cli(Train | Sweep, args=arguments, prog="app"))


LIBRARIES: dict[str, Callable[[list[str]], None]] = {
    "argparse": by_argparse,
    "cyclopts": by_cyclopts,
    "tyro": by_tyro,
}


def ask(library: str, *arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """What a command line answers at 80 columns, and the processor's seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, __file__, library, *arguments],
        env={**os.environ, "COLUMNS": "80", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def without_folders(text: str) -> list[str]:
    """Lines of a text, its files named without the folders of this machine."""
    return re.sub(r'File ".*?(?:site-packages|python3\.\d+|src)/', 'File "', text).strip().splitlines()


def tried(library: str, repeats: int) -> dict[str, Any]:
    """One library on all that is asked."""
    seconds = {
        command or "app": [ask(library, *filter(None, [command]), "--help")[1] for _ in range(repeats)]
        for command in ("", "train")
    }
    with tempfile.TemporaryDirectory() as empty:
        cold = ask(library, "train", "--help", PYTHONPYCACHEPREFIX=empty)[1]
    lines = ask(library, "train", "--help")[0].stdout.splitlines()
    answers = {name: ask(library, *words)[0] for name, words in WRONG.items()}
    return {
        "version": importlib.metadata.version(library) if library != "argparse" else "with Python",
        "help_cpu_seconds": {name: {"median": median(s), "min": min(s)} for name, s in seconds.items()},
        "help_without_bytecode_cpu_seconds": cold,
        "help_widest_line": max(map(len, lines)),
        "help_lines": len(lines),
        "wrong": {
            name: {"code": done.returncode, "lines": without_folders(done.stdout + done.stderr)[-12:]}
            for name, done in answers.items()
        },
        "right": {name: text in ask(library, *words)[0].stdout for name, (words, text) in RIGHT.items()},
        "completion": {
            shell: "--net.depth" in ask(library, "completion", shell)[0].stdout
            or "net.depth" in ask(library, "completion", shell)[0].stdout
            for shell in SHELLS
        },
    }


def own_help(command: str) -> float:
    """The processor's seconds for gradscape's own help."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments = [*filter(None, [command]), "--help"]
    subprocess.run([sys.executable, "-m", "gradscape", *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in LIBRARIES:
        LIBRARIES[sys.argv[1]](sys.argv[2:])
        return
    repeats = 7
    bare = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    found = {
        "python_alone_cpu_seconds": median(bare),
        "gradscape_help_cpu_seconds": {
            command or "gradscape": spread([own_help(command) for _ in range(repeats)])
            for command in ("", "train", "sweep", "runs")
        },
        "libraries": {library: tried(library, repeats) for library in LIBRARIES},
    }
    write("command_lines", found)


if __name__ == "__main__":
    main()
