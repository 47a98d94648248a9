"""What the README's first screen says has been shown: a line each, from the committed JSON."""

from __future__ import annotations

import textwrap
from statistics import fmean

from public_tables import BOTH, percent
from tables import RESULTS, result
from verdict_tables import VERDICT_DRAWS

WIDTH = 118  # of the README's lines


def proof() -> str:
    """The lines of the README; each links to the page that shows it."""
    return "\n".join(_item(text) for text in (public(), healthy(), networks(), cost()))


def _item(text: str) -> str:
    """An item of a list, its lines broken between words."""
    return textwrap.fill(f"- {text}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def public() -> str:
    """How many public failures are found: of the half held out, and of those found and rebuilt blind."""
    held = result(f"{RESULTS}/public_scores.json")["scores"][BOTH]["held out"]
    fresh = result(f"{RESULTS}/public_scores_first.json")["scores"][BOTH]["fresh"]  # half is looked at since
    (found, right, ill), blind = (
        [percent(of[name]) for name in ("detected", "right kind, any finding", "twins graded fail")]
        for of in (held, fresh)
    )
    return (
        f"**Public failures:** of {held['cases']} reported trainings held out, on which no rule's limit was "
        f"set, a check and a watch detect {found} and name the right kind of cause in {right}; repaired, "
        f"{ill} are called ill. Of {fresh['cases']} more, found and rebuilt blind afterwards: "
        f"{', '.join(blind[:2])} and {blind[2]} ([cases, and other tools](docs/failures.md))."
    )


def healthy() -> str:
    """How often a training that is well is called ill."""
    found = result(f"{RESULTS}/healthy.json")
    share = max(score["share"] for score in found["scores"].values())
    trainings = sum(score["healthy"] for score in found["scores"].values())
    checked = sum(check["networks"] for check in found["checks"].values())
    wrong = sum(check["false_alarms"] for check in found["checks"].values())
    return (
        f"**False alarms:** over {trainings} healthy trainings of networks of timm, transformers, diffusers "
        f"and others at most {100 * share:.1f} % of verdicts say `fail`; a check says it of {wrong} of "
        f"{checked} networks ([how](docs/accuracy.md))."
    )


def networks() -> str:
    """How often the verdict on small networks is right, beside one number that anybody would look at."""
    scores = [result(f"{RESULTS}/verdicts-{number}.json")["scores"]["held out"] for number in VERDICT_DRAWS]
    right, simple = (
        fmean(score[rule]["right"] for score in scores)  # draws of equal size
        for rule in ("gradscape", "loss of one mini-batch after 50 steps")
    )
    count = sum(score["gradscape"]["networks"] for score in scores)
    return (
        f"**Will it train?** After 50 steps the verdict is right for {100 * right:.1f} % of {count} "
        f"small networks of families on which no limit was set; the loss alone for {100 * simple:.1f} % "
        "([tables](docs/accuracy.md))."
    )


def cost() -> str:
    """What a watch adds to a step."""
    found = result(f"{RESULTS}/watch_cost.json")["networks"]
    added = sorted(network["ways"]["gradscape"]["added_percent"] for network in found.values())
    return (
        f"**Cost:** {added[0]:+.1f} to {added[-1]:+.1f} % of a step of VGG38, ResNet-50 and a transformer "
        "([table](docs/watching.md#what-it-costs)). Weights end bit for bit as without it; tests hold that."
    )
