"""Subjects of DeepFD (Cao et al., ICSE 2022) that are not among deepmufl's.

Faults and repairs are those of its benchmark; where it does not tell a layer or the data, `departs` says so.
Left out: 41372874 and 41947039 (no patch), 39810655, 41327601, 42514960 and 50481178 (the patch does not
help, its authors say), 31556268 (50,000 epochs), 44066044, 45337371, 58237726 and 59282996 (too little is
told), Traffic-Sign-Classifier, MovieReviews_Keras and kaggle-melbourne_properties
(the patch is another model).
"""

from __future__ import annotations

from public_failures import deepfd_classes, deepfd_values
from public_failures.case import Case

CASES: tuple[Case, ...] = (*deepfd_classes.CASES, *deepfd_values.CASES)
