"""Command line: each command's module is imported when it is called, and torch when it is needed."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

from cyclopts import Parameter

from gradscape._interrupts import Terminated
from gradscape._printing import heard_or_not, print_stderr, silence
from gradscape.cli.app import make_app, parse
from gradscape.errors import GradscapeError
from gradscape.version import __version__

INTERRUPTED, TERMINATED = 130, 143  # as shells say
_AGAIN = "give the same command again"
_RESUMED = f"every finished epoch is kept: {_AGAIN} to go on"
_THEN = {  # what follows when a command is interrupted
    **dict.fromkeys(("reproduce", "train", "sweep"), _RESUMED),
    "live": "the page is closed, and what trains goes on",
}
_SWEEP = """vary any settings of a run, over seeds

Runs every combination of the axes' values, over seeds, and builds a report. The other flags of `train`,
such as --epochs 6, set what all runs have in common. Given together with a study FILE: these flags override
its base; an axis of a field takes the place of the file's axis of that field (the whole axis, where fields
vary together), other axes come after the file's; exclusions are added to the file's, of which those of
values that a replaced axis no longer has are dropped; --seeds, --seeds-at-most, --name, --equal-updates
and --scale-lr override. In a folder that holds a part of it, only the missing runs are made.
"""
_COMMANDS = {
    "reproduce": ("reproduce:reproduce", "[STUDY]", "run a whole study and check its claims"),
    "train": ("train:train", "", "train one run"),
    "sweep": ("sweep:sweep", "[FILE]", _SWEEP),
    "check": ("check:check", "FACTORY", "will a network train? why not? what would help?"),
    "lr-range": ("lr_range:lr_range", "FACTORY", "which learning rates train a network, and which diverge?"),
    "coordinates": (
        "coordinates:coordinates",
        "FACTORY",
        "do activations and updates keep their size with width?",
    ),
    "diagnose": ("diagnose:diagnose", "DIR", "what is wrong with a run, where, why, and what would help?"),
    "compare": ("compare:compare", "A B", "where do two trainings first differ, beyond what seeds explain?"),
    "smoothness": ("measure:smoothness", "RUN", "how smooth is the loss along the next step?"),
    "curvature": ("measure:curvature", "RUN", "eigenvalues, trace and density of the Hessian"),
    "landscape": ("landscape:landscape", "RUN …", "the loss over a plane or line of parameters, drawn"),
    "schema": (
        "schema:schema",
        "WHAT",
        "print the JSON Schema of a file, for editors, or of a document, for programs",
    ),
    "runs": ("runs:runs", "DIR", "what is done, running, failed in the folder of a study or a run"),
    "live": ("live:live", "DIR", "a page that follows trainings while they are written"),
    "export": (
        "export:export",
        "DIR --to TRACKER --into PLACE",
        "hand the runs of a folder on to TensorBoard, W&B, MLflow or Trackio",
    ),
    "report": (
        "reproduce:report",
        "DIR",
        "build the page of a study or a run again, from its folder",
    ),
}

app = make_app(
    "gradscape", "Tells why a deep network trains or does not, and shows it.", f"gradscape {__version__}"
)
for _name, (_function, _arguments, _help) in _COMMANDS.items():
    _usage = " ".join(filter(None, ["gradscape", _name, _arguments, "[OPTIONS]"]))  # quicker than worked out
    app.command(f"gradscape.cli.{_function}", name=_name, help=_help, usage=_usage)


_COMPLETION = """print a script by which a shell completes commands and flags

For bash, once: gradscape completion bash > ~/.local/share/bash-completion/completions/gradscape
"""


@app.command(help=_COMPLETION)
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL", help="bash, zsh or fish")], /
) -> None:
    """Print a script by which a shell completes commands and flags.

    Args:
        shell: Shell of the script.
    """
    print(app.generate_completion(shell=shell))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: Words after `gradscape`; by default those of this process.

    Returns:
        0 if all is well, 1 if some run failed or is diagnosed with a fault of grade fail, or two trainings
        differ, 2 on wrong input, 130 if interrupted, 143 if told to end by SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show × still gets the rest
            stream.reconfigure(errors="replace")
    os.environ["MPLBACKEND"] = "agg"  # figures go to files, whatever the user's own setting
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = parse(app, words)()
        if sys.stdout is not None:
            sys.stdout.flush()
    except GradscapeError as error:
        print_stderr(f"gradscape: {error}")
        return error.exit_code
    except KeyboardInterrupt as end:
        then = _THEN.get(words[0] if words else "", _AGAIN)
        print_stderr(f"gradscape: {str(end) or 'stopped'}; {then}")
        return TERMINATED if isinstance(end, Terminated) else INTERRUPTED
    except BrokenPipeError:  # `gradscape runs DIR | head`
        silence(sys.stdout)
        return 0
    except OSError as error:  # of a file with a name, or of what is printed to
        silence(sys.stdout)
        print_stderr(f"gradscape: {error.filename or 'output'}: {error.strerror or error}")
        return GradscapeError.exit_code
    finally:
        with heard_or_not(sys.stderr):  # what Python cannot flush at its end would change the exit code
            pass
    return code or 0
