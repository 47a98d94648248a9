"""A watch of compiled code: the same numbers as without, nothing compiled anew, nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

import gradscape as gs
from gradscape.measure.watch.watch import Watch
from gradscape.records.activations import ActivationHistory
from gradscape.records.gradients import FlowHistory

# torch's own, when it first compiles
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad attribute of a Tensor"
)

SLOW_TRUE = pytest.param(True, marks=pytest.mark.slow)


def returned(model: nn.Module) -> Any:
    return torch.compile(model, backend="aot_eager", fullgraph=True)


def in_place(model: nn.Module) -> Any:
    model.compile(backend="aot_eager", fullgraph=True)
    return model


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


class Net(nn.Module):
    """Layers of most kinds, functions between them, and a part that may be checkpointed."""

    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.second, self.drop = nn.Conv2d(4, 4, 3), nn.Dropout(0.1)
        self.linear, self.tanh, self.head = nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)
        self.reentrant = reentrant

    def body(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.norm(self.conv(x)))
        return out

    def forward(self, x: Tensor) -> Tensor:
        if self.reentrant is None:
            hidden = self.body(x)
        else:
            hidden = checkpoint(self.body, x, use_reentrant=self.reentrant)
        hidden = F.relu(self.second(hidden) - 0.1).flatten(1)
        out: Tensor = self.head(self.drop(self.tanh(self.linear(hidden))))
        return out


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner, self.act = nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU()
        self.outer = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.outer(self.act(self.inner(self.norm(x))))
        return out


class Blocks(nn.Module):
    """Equal blocks, each of which may be inside a checkpoint."""

    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        self.blocks, self.head = nn.ModuleList(Block() for _ in range(3)), nn.Linear(8, 3)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
        out: Tensor = self.head(x)
        return out


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.encoder(self.embedding(x))
        return out


class Loop(nn.Module):
    """A module called again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.RNNCell(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.new_zeros(len(x), 8)
        for _ in range(17):
            hidden = self.cell(x, hidden)
        out: Tensor = self.head(hidden)
        return out


class Mask(nn.Module):
    """A layer without numbers to read."""

    def forward(self, x: Tensor) -> Tensor:
        return x > 0


@dataclass
class Hidden:
    values: Tensor
    count: int


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), 2.0))

    def forward(self, x: Tensor) -> Hidden:
        return Hidden(self.weight * x, len(x))


class Odd(nn.Module):
    """A layer without numbers comes first, then one that autograd does not record, and a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.mask, self.teacher, self.scale = Mask(), nn.Linear(4, 4), Scale()
        self.same, self.head = nn.Identity(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            target = self.teacher(x * self.mask(x))
        out: Tensor = self.head(self.same(self.scale(x + target).values))
        return out


class Mapped(nn.Module):
    """Layers within a function that torch.func transforms, and one outside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.vmap(lambda row: self.inner(row).tanh())(x))
        return out


class Branches(nn.Module):
    """Layers within the branches of torch.cond, and one outside."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.cond(x.sum() > 0, self.one.forward, lambda x: self.other(x).tanh(), (x,))
        out: Tensor = self.head(hidden)
        return out


class Region(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    @torch.compiler.nested_compile_region
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x).tanh()
        return out


class Regions(nn.Module):
    """Equal regions, which the compiler traces once, and a layer outside."""

    def __init__(self) -> None:
        super().__init__()
        self.regions, self.head = nn.ModuleList(Region() for _ in range(3)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for region in self.regions:
            x = region(x)
        out: Tensor = self.head(x)
        return out


DATA: dict[type[nn.Module], Callable[[], Tensor]] = {
    Net: lambda: torch.randn(6, 3, 6, 6),
    Blocks: lambda: torch.randn(5, 8),
    Words: lambda: torch.randint(0, 7, (4, 6)),
    Loop: lambda: torch.randn(5, 4),
    **dict.fromkeys((Odd, Mapped, Branches, Regions), lambda: torch.randn(5, 4)),
}


@dataclass
class Trained:
    """What a training left.

    Attributes:
        weights: Parameters and buffers.
        losses: Loss of each step.
        flow: Watch.
        graphs: Number of graphs after each step.
    """

    weights: list[Tensor]
    losses: list[float]
    flow: Watch | None
    graphs: list[int] = field(default_factory=list)

    @property
    def history(self) -> FlowHistory:
        assert self.flow is not None
        return self.flow.history()


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> float:
    optimizer.zero_grad()
    out = model(x)
    loss = out.logsumexp(-1).mean() + out.square().mean()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def train(
    make: Callable[[], nn.Module],
    wrap: Callable[[nn.Module], Any] = lambda model: model,
    first: str = "compile",
    steps: int = 3,
    between: Callable[[nn.Module], object] = lambda _: None,
    **options: Any,
) -> Trained:
    """Train a model; `first` is what comes first, `compile` or `watch`, or `nothing` for no watch."""
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    options = {"activations": True, **options}
    flow = gs.watch(model, optimizer, **options) if first == "watch" else None
    compiled = wrap(model)
    flow = gs.watch(compiled, optimizer, **options) if first == "compile" else flow
    trained = Trained([], [], flow)
    for _ in range(steps):
        x = DATA[type(model)]()
        if x.is_floating_point():
            x.requires_grad_()  # as older checkpoints need it, and each block but the first has it
        between(compiled)
        trained.losses.append(step(compiled, optimizer, x))
        trained.graphs.append(counters["stats"]["unique_graphs"])
    assert not counters["graph_break"]
    trained.weights = [each.detach().clone() for each in model.state_dict().values()]
    return trained


def outputs(trained: Trained) -> ActivationHistory:
    found = trained.history.activations
    assert found is not None
    return found


def assert_equal(compiled: ActivationHistory, plain: ActivationHistory) -> None:
    """Assert that all numbers of the same layers are the same, in whatever order they ran first."""
    assert set(compiled.layers) == set(plain.layers)
    columns = [compiled.layers.index(name) for name in plain.layers]
    assert np.array_equal(compiled.steps, plain.steps)
    for name, rtol in (("second_moment", 1e-5), ("correlation", 1e-5), ("dead", 0), ("saturated", 0)):
        ours, theirs = getattr(compiled, name)[:, columns], getattr(plain, name)
        assert np.allclose(ours, theirs, rtol=rtol, atol=1e-6, equal_nan=True), name
    assert np.isfinite(plain.second_moment).all()


@pytest.mark.parametrize(
    ("make", "wrap", "first"),
    [
        (Net, returned, "compile"),
        pytest.param(Net, in_place, "watch", marks=pytest.mark.slow),
        (Words, in_place, "watch"),
        (Odd, returned, "compile"),
        pytest.param(Words, returned, "compile", marks=pytest.mark.slow),
        pytest.param(Loop, returned, "compile", marks=pytest.mark.slow),
    ],
)
def test_outputs_are_those_of_eager_and_nothing_changes(
    make: type[nn.Module], wrap: Callable[[nn.Module], Any], first: str
) -> None:
    plain, alone = train(make), train(make, wrap, first="nothing")
    watched = train(make, wrap, first)
    assert_equal(outputs(watched), outputs(plain))
    assert outputs(watched).layers == outputs(plain).layers
    assert watched.losses == alone.losses
    assert all(map(torch.equal, watched.weights, alone.weights))
    assert watched.graphs == alone.graphs == [1, 1, 1]
    unlike = [note for note in watched.history.notes if "attention" not in note]
    assert unlike == list(plain.history.notes)


@pytest.mark.slow
def test_what_a_function_leaves_unused_is_told_of_the_layer_after_it() -> None:
    """As in eager: of F.relu, and not of an nn.ReLU, which tells it itself."""
    seen = outputs(train(Net, returned))
    share = dict(zip(seen.layers, seen.dead[-1], strict=True))
    assert 0 <= share["linear"] <= 1
    assert np.isnan(share["second"])


def blocks_in_place(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, Block):
            module.compile(backend="aot_eager", fullgraph=True)
    return model


@pytest.mark.parametrize("first", ["compile", "watch"])
def test_equal_blocks_share_one_graph_and_are_told_apart(first: str) -> None:
    plain, watched = train(Blocks), train(Blocks, blocks_in_place, first)
    assert_equal(outputs(watched), outputs(plain))
    assert outputs(watched).layers == outputs(plain).layers
    assert watched.graphs == [1, 1, 1]


@pytest.mark.parametrize("reentrant", [False, SLOW_TRUE])
def test_what_a_checkpoint_within_runs_again_is_read_once(reentrant: bool) -> None:
    plain, alone = train(Net), train(lambda: Net(reentrant), returned, first="nothing")
    watched = train(lambda: Net(reentrant), returned)
    assert_equal(outputs(watched), outputs(plain))
    assert all(map(torch.equal, watched.weights, alone.weights))
    assert watched.graphs == [1, 1, 1]


@pytest.mark.parametrize("reentrant", [False, SLOW_TRUE])
def test_compiled_blocks_that_a_checkpoint_runs_again_are_read_once(reentrant: bool) -> None:
    watched = train(lambda: Blocks(reentrant), blocks_in_place)
    assert_equal(outputs(watched), outputs(train(lambda: Blocks(reentrant))))
    assert watched.graphs[1:] == watched.graphs[:1] * 2


@pytest.mark.slow
def test_evaluations_belong_to_no_step() -> None:
    def evaluate(model: nn.Module) -> None:
        x = torch.full((6, 3, 6, 6), 50.0, requires_grad=True)
        model(x).sum()  # autograd records it
        with torch.no_grad():
            model(x)

    watched = train(Net, returned, between=evaluate)
    assert_equal(outputs(watched), outputs(train(Net, between=evaluate)))
    assert watched.graphs == [2, 2, 2]  # with and without a gradient


@pytest.mark.parametrize("first", ["compile", pytest.param("watch", marks=pytest.mark.slow)])
def test_a_rhythm_compiles_nothing_anew(first: str) -> None:
    watched = train(Net, returned, first, steps=7, every=3)
    assert outputs(watched).steps.tolist() == [0, 3, 6]
    assert_equal(outputs(watched), outputs(train(Net, steps=7, every=3)))
    assert watched.graphs == [1] * 7


@pytest.mark.parametrize(
    ("make", "hidden"), [(Mapped, "inner"), (Branches, "other"), (Regions, "regions.0.inner")]
)
def test_layers_inside_functions_of_operations_are_left_alone(make: type[nn.Module], hidden: str) -> None:
    """torch cannot compile them with an operation that acts inside."""
    alone, watched = train(make, returned, first="nothing"), train(make, returned)
    assert watched.losses == alone.losses
    assert all(map(torch.equal, watched.weights, alone.weights))
    assert watched.graphs == alone.graphs
    assert "head" in outputs(watched).layers
    (note,) = watched.history.notes
    assert hidden in note
    assert "compiled code inside torch.func, torch.cond or the like" in note


def test_passes_of_other_sizes_before_one_backward_pass_are_told_apart() -> None:
    """Evaluations too, the graph of which is kept."""

    def seen(wrap: Callable[[nn.Module], Any]) -> ActivationHistory:
        torch.manual_seed(0)
        model, kept = Blocks(), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        wrapped = wrap(model)
        with gs.watch(wrapped, optimizer, activations=True) as flow:
            for _ in range(2):
                kept.append(wrapped(torch.randn(4, 8)))
                optimizer.zero_grad()
                sum(wrapped(torch.randn(size, 8)).square().mean() for size in (5, 7)).backward()  # type: ignore[union-attr]
                optimizer.step()
        found = flow.history().activations
        assert found is not None
        assert np.isfinite(found.correlation[:, found.layers.index("head (call 2)")]).all()
        return found

    compiled = seen(lambda model: torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True))
    assert_equal(compiled, seen(lambda model: model))


@pytest.mark.slow
def test_batches_of_any_size_are_read_with_one_graph() -> None:
    model = Blocks()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    flow = gs.watch(compiled, optimizer, activations=True)
    sizes = (5, 7, 9)
    for size in sizes:
        step(compiled, optimizer, torch.full((size, 8), float(size)))
    assert counters["stats"]["unique_graphs"] == 1
    seen = flow.history().activations
    assert seen is not None
    assert np.allclose(seen.second_moment[:, seen.layers.index("input")], np.square(sizes))


def test_a_second_watch_uses_the_compiled_code_of_the_first() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compiled = returned(model)
    for _ in range(2):
        flow = gs.watch(compiled, optimizer, activations=True)
        for _ in range(2):
            step(compiled, optimizer, DATA[Net]())
        seen = flow.history().activations
        assert seen is not None
        assert "conv" in seen.layers
        assert np.isfinite(seen.second_moment).all()
    assert counters["stats"]["unique_graphs"] == 1
    flow.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_model_that_ran_compiled_before_the_watch_is_noted() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compiled = returned(model)
    step(compiled, optimizer, DATA[Net]())
    with gs.watch(compiled, optimizer, activations=True) as flow:
        step(compiled, optimizer, DATA[Net]())
    assert np.isfinite(flow.history().rms).all()
    (note,) = flow.history().notes
    assert note.startswith("no layer's output was seen: the model, or another of its class, ran compiled")
    torch._dynamo.reset()
    with gs.watch(compiled, optimizer, activations=True) as flow:
        step(compiled, optimizer, DATA[Net]())
    assert flow.history().notes == ()


@pytest.mark.slow
def test_a_step_compiled_with_its_loss_is_read() -> None:
    torch.manual_seed(0)
    model, x = Blocks(), torch.randn(5, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def loss(x: Tensor) -> Tensor:
        value: Tensor = model(x).square().mean()
        return value

    flow = gs.watch(model, optimizer, activations=True)
    for _ in range(2):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    seen = flow.history().activations
    assert seen is not None
    assert seen.layers[-1] == "head"
    assert seen.second_moment[0, 0] == pytest.approx(float(x.square().mean()), rel=1e-6)
    assert np.isfinite(seen.second_moment).all()
    assert counters["stats"]["unique_graphs"] == 1


def test_what_the_model_is_given_and_returns_is_read_as_in_eager() -> None:
    def last(trained: Trained) -> Any:
        assert trained.history.loss is not None
        return trained.history.loss.readings[-1]

    watched = train(Net, returned, activations=False)
    compiled, plain = last(watched), last(train(Net, activations=False))
    assert compiled.inputs == plain.inputs is not None
    assert compiled.output.std == pytest.approx(plain.output.std, rel=1e-5)
    assert compiled.calls == plain.calls == 1
    assert watched.graphs == [1, 1, 1]


def test_an_exported_program_has_nothing_of_ours() -> None:
    model = Blocks()
    gs.watch(model, torch.optim.SGD(model.parameters(), lr=0.1), activations=True)
    program = torch.export.export(model, (torch.randn(5, 8),))
    assert len(program.graph.nodes) > 30
    assert not any("gradscape" in str(node.target) for node in program.graph.nodes)


@pytest.mark.slow
def test_an_error_of_ours_ends_the_reading_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no such axis")

    alone = train(Blocks, returned, first="nothing")
    monkeypatch.setattr("gradscape.measure.watch.activations.moments", fails)
    with pytest.warns(UserWarning, match="activations are not read, since step 0: .*no such axis"):
        watched = train(Blocks, returned)
    assert watched.losses == alone.losses
    assert watched.history.activations is None


@pytest.mark.slow
@pytest.mark.parametrize("make", [pytest.param(Net, marks=pytest.mark.long), Blocks])
def test_with_inductor_too(make: type[nn.Module]) -> None:
    plain, alone = train(make), train(make, torch.compile, first="nothing")
    watched = train(make, torch.compile)
    seen, truth = outputs(watched), outputs(plain)
    assert seen.layers == truth.layers
    before = truth.layers.index("drop") if make is Net else len(truth.layers)  # it draws other numbers
    assert np.allclose(seen.second_moment[0, :before], truth.second_moment[0, :before], rtol=1e-4)
    assert np.allclose(seen.dead[0, :before], truth.dead[0, :before], equal_nan=True)
    assert watched.losses == alone.losses
    assert all(map(torch.equal, watched.weights, alone.weights))
    assert watched.graphs == [1, 1, 1]
