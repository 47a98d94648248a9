"""Write the measured numbers into README.md from the committed JSON: `python benchmarks/readme.py`.

The README's numbers stand between `<!-- NAME -->` and `<!-- end -->`; a test checks that they are what
this script writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def result(name: str) -> Any:
    return json.loads((ROOT / name).read_text())


def duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def machine_line(machine: dict[str, Any]) -> str:
    return (
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        f"torch {machine['torch']}, commit {machine['commit']}, {machine['date']}"
    )


def measured() -> str:
    commands = result("benchmarks/results/commands.json")
    cost = result("benchmarks/results/gradient_flow_cost.json")["steps"]
    rate = commands["full_epoch_images_per_second"]
    rows = [
        ("`gradscape --help`", duration(commands["help_seconds"]["median"])),
        (
            f"`gradscape reproduce` (quick: {commands['quick_runs']} runs and the report)",
            duration(commands["quick_seconds"]),
        ),
        ("`gradscape report` on it", duration(commands["report_seconds"]["median"])),
        (
            "CIFAR-100, first read: verified, decoded, cached",
            duration(commands["cifar100_first_read_seconds"]),
        ),
        (
            "CIFAR-100, from the cache, verified again",
            duration(commands["cifar100_cached_read_seconds"]["median"]),
        ),
        (
            "one epoch of VGG38 + BatchNorm on all 47,500 images, batch 100, "
            f"{commands['full_epoch_threads']} threads, fp32",
            f"{duration(commands['full_epoch_seconds'])} ({rate:.0f} images/s)",
        ),
    ]
    for name, step in cost.items():
        added = step["added_percent"]
        rows.append(
            (
                f"recording the gradient flow, per training step ({name})",
                f"{added['median']:+.1f} % ({added['min']:+.1f} … {added['max']:+.1f}, n = {added['n']})",
            )
        )
    table = ["| what | measured |", "| --- | --- |", *(f"| {what} | {value} |" for what, value in rows)]
    return "\n".join([*table, "", machine_line(commands["machine"]) + "."])


def claims(folder: str) -> Callable[[], str]:
    def text() -> str:
        rows = [
            f"| {claim['id']} | {claim['text']} | **{claim['verdict']}** | {numbers(claim)} |"
            for claim in result(f"results/{folder}/claims.json")["claims"]
        ]
        provenance = result(f"results/{folder}/provenance.json")
        head = ["| | the paper's claim | here | measured |", "| --- | --- | --- | --- |"]
        return "\n".join(
            [*head, *rows, "", f"{provenance['runs']} runs; {machine_line(provenance['machine'])}."]
        )

    return text


def numbers(claim: dict[str, Any]) -> str:
    """What each part of a decided claim measured and found; of others, why they are not decided."""
    if claim["verdict"] not in ("holds", "does not hold"):
        return str(claim["reason"])
    return "<br>".join(f"{part['measured']}: {part['reason']}".replace("|", "\\|") for part in claim["parts"])


BLOCKS: dict[str, Callable[[], str]] = {"measured": measured, "quick": claims("batchnorm-quick-digits")}


def filled(text: str) -> str:
    """The README's text with every block as the JSON has it."""
    for name, block in BLOCKS.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, found = re.subn(pattern, lambda m, b=block: f"{m[1]}{b()}\n{m[2]}", text, flags=re.DOTALL)
        assert found == 1, f"README.md has no block {name}"
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
