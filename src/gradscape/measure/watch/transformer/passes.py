"""Numbers of one backward pass: what its graph tells, and what parts that run again add."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from gradscape.measure.core.graph.owners import Owners
from gradscape.measure.core.graph.walk import Graph
from gradscape.measure.watch.transformer.attention import read_attention
from gradscape.measure.watch.transformer.logits import read_logits
from gradscape.measure.watch.transformer.routers import read_routers
from gradscape.measure.watch.transformer.stream import Tokens, read_tokens, stream_numbers


@dataclass
class Pass:
    """Numbers of a pass.

    Attributes:
        attention: Numbers of each attention.
        tokens: Tokens of the residual stream, by normalization layer.
        logits: Numbers of the output logits.
        routers: Numbers of each router of experts.
    """

    attention: dict[str, Tensor] = field(default_factory=dict)
    tokens: Tokens = field(default_factory=dict)
    logits: dict[str, Tensor] = field(default_factory=dict)
    routers: dict[str, Tensor] = field(default_factory=dict)

    def read(self, graph: Graph, owners: Owners) -> bool:
        """Add what a graph tells and is not known yet, and return whether a checkpoint keeps some back.

        Args:
            graph: Graph of the pass, or the end of one in a part that runs again.
            owners: Modules of the model.
        """
        attention, heads_packed = read_attention(graph, owners, self.attention)
        tokens, stream_packed = read_tokens(graph, owners, self.tokens)
        routers, routers_packed = read_routers(graph, owners, self.routers)
        if graph.rerun:
            self.routers = owners.in_order({**self.routers, **routers})
            self.attention = owners.in_order({**self.attention, **attention})
            self.tokens = owners.in_order({**self.tokens, **tokens})
        else:
            self.attention, self.tokens, self.routers = attention, tokens, routers
            self.logits = read_logits(graph)
        return heads_packed or stream_packed or routers_packed

    def numbers(self) -> dict[str, dict[str, Tensor]]:
        """Return the numbers by quantity; empty of a model that is no transformer."""
        if not self.attention and not self.routers:
            return {}
        return {
            "attention": self.attention,
            "stream": dict(stream_numbers(self.tokens, self.attention)),
            "logits": self.logits,
            "routers": self.routers,
        }
