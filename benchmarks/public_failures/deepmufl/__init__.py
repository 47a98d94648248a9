"""The 109 cases of deepmufl (Ghanbari et al., ASE 2023), from Stack Overflow, rebuilt.

Layers, sizes and data are facts of the published benchmark, https://github.com/ali-ghanbari/deepmufl-ase-2023,
which has stand-in data for most; `departs` says where sizes are smaller than there. Throughout, a learning
rate's decay of 1e-6 a step is left out, and validation data that is only reported on. A score is of held-out
samples where those trained on can tell anything about others, as with few features; else of those trained on.
"""

from public_failures.case import Case
from public_failures.deepmufl import (
    hidden,
    many_classes,
    no_probabilities,
    one_unit,
    ranges,
    rates,
    rest,
    wrong_losses,
)

MODULES = (one_unit, ranges, many_classes, no_probabilities, wrong_losses, hidden, rates, rest)
CASES: tuple[Case, ...] = tuple(case for module in MODULES for case in module.CASES)
