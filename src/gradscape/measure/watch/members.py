"""Follow which optimizer trains which of the watched parameters, as optimizers come and parameters thaw."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence

from torch import nn
from torch.optim import Optimizer

from gradscape._text import join_names
from gradscape.measure.core.parameters import (
    WatchedParameters,
    facts,
    foreign,
    named,
    not_watched,
    parameters_of,
    untrained,
)
from gradscape.records.gradients import OptimizerFacts, Untrained

# The earlier parameters, for each new one its index among them (None for one that was not watched), and the
# indices of those that were not.
OnChange = Callable[[WatchedParameters, list[int | None], list[int]], None]


class Members:
    """Watched parameters of a model by the optimizer that trains them.

    Args:
        model: Watched model.
        optimizers: Optimizers of the model.
        watched: Parameters that they train.
        notes: Notes of the watch, to which this appends.
        on_change: Callback after other parameters than before are watched.

    Attributes:
        optimizers: Optimizers that own a watched parameter.
        watched: Watched parameters.
        owners: Optimizer of each parameter, by its index.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        watched: WatchedParameters,
        notes: list[str],
        on_change: OnChange,
    ) -> None:
        self.model, self.notes, self.on_change = model, notes, on_change
        self.optimizers = tuple(optimizers)
        self._met = weakref.WeakSet(self.optimizers)
        self._follow(watched, step=0)

    def _follow(self, watched: WatchedParameters, step: int) -> None:
        self.watched = watched
        # By optimizer: ids of its parameters, and indices of the watched ones.
        self._indices: weakref.WeakKeyDictionary[Optimizer, tuple[tuple[int, ...], list[int]]]
        self._indices = weakref.WeakKeyDictionary()
        self.owners: dict[int, Optimizer] = {}
        for optimizer in self.optimizers:
            self.own(optimizer, self.indices_of(optimizer, step))

    def indices_of(self, optimizer: Optimizer, step: int, remembered: bool = False) -> list[int]:
        """Return the indices of the watched parameters that an optimizer trains, even of a new one.

        Args:
            optimizer: Any optimizer.
            step: Number of the current step, for notes.
            remembered: Whether the last answer will do, without a look at the optimizer's parameters.
        """
        known = self._indices.get(optimizer)
        if known is not None and remembered:
            return known[1]
        theirs = tuple(id(p) for group in optimizer.param_groups for p in group["params"])
        thawed = any(parameter.requires_grad for parameter in self.watched.frozen)
        if known is not None and known[0] == theirs and not thawed:
            return known[1]
        if thawed or known is not None or optimizer not in self.optimizers:
            self._look_again(optimizer, theirs, step)
        known = self._indices[optimizer] = theirs, self._places_of(theirs)
        return known[1]

    def _places_of(self, identities: Iterable[int]) -> list[int]:
        wanted = set(identities)
        return [place for place, p in enumerate(self.watched.parameters) if id(p) in wanted]

    def _look_again(self, optimizer: Optimizer, theirs: tuple[int, ...], step: int) -> None:
        """Update the watched parameters for a new optimizer, new parameters or unfrozen ones."""
        trains = {id(parameter) for parameter in self.model.parameters()} & set(theirs)
        if not trains:
            return
        if optimizer not in self.optimizers:
            if optimizer not in self._met:
                name = f"{type(optimizer).__name__}, which gs.watch was not given,"
                self.notes.append(f"{name} trains {len(trains)} tensors of the model since step {step}")
            self.optimizers = (*self.optimizers, optimizer)
        self._met.add(optimizer)
        old = self.watched
        new = WatchedParameters.of(self.model, self.optimizers, {id(p) for p in old.parameters})
        if [id(p) for p in new.parameters] != [id(p) for p in old.parameters]:
            self._change_to(new, step)

    def _change_to(self, new: WatchedParameters, step: int) -> None:
        """Watch other parameters; those with the same identity or name are the same."""
        old = self.watched
        by_id = {id(p): place for place, p in enumerate(old.parameters)}
        by_name = {(n, p.shape): i for i, (n, p) in enumerate(zip(old.names, old.parameters, strict=True))}
        where = [
            by_id.get(id(p), by_name.get((name, p.shape)))
            for name, p in zip(new.names, new.parameters, strict=True)
        ]
        unread = [place for place, p in enumerate(new.parameters) if id(p) not in by_id]
        self.notes.append(f"watched since step {step} only: {join_names([new.names[i] for i in unread])}")
        self._follow(new, step)
        self.on_change(old, where, unread)

    def own(self, optimizer: Optimizer, places: list[int]) -> None:
        """Record an optimizer as the owner of parameters, and release optimizers that own none.

        Args:
            optimizer: Any optimizer.
            places: Indices of the parameters.
        """
        if all(self.owners.get(place) is optimizer for place in places):
            return
        self.owners |= dict.fromkeys(places, optimizer)
        owners = set(map(id, self.owners.values()))
        self.optimizers = tuple(each for each in self.optimizers if id(each) in owners)

    def facts(self) -> tuple[OptimizerFacts, ...]:
        """Return what a diagnosis needs to know of each optimizer."""
        owned = [
            sorted(place for place, owner in self.owners.items() if owner is optimizer)
            for optimizer in self.optimizers
        ]
        parameters = self.watched.parameters
        return tuple(
            facts(optimizer, places, [parameters[place] for place in places])
            for optimizer, places in zip(self.optimizers, owned, strict=True)
        )

    def untrained(self) -> Untrained:
        """Return the model's parameters that no optimizer trains."""
        trained = {key for optimizer in self.optimizers for key in parameters_of(optimizer)}
        return untrained(named(self.model), trained)

    def remarks(self) -> list[str]:
        """Return notes on parameters that are not watched, and on optimizers' that are not the model's."""
        entries = named(self.model)
        trained = {key for optimizer in self.optimizers for key in parameters_of(optimizer)}
        watched = {id(parameter) for parameter in self.watched.parameters}
        return [*not_watched(entries, trained, watched), *foreign(self.model, entries, trained)]
