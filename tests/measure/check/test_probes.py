"""Probes of a batch find each fault in the smallest model that has it, and nothing in its repaired twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

import gradscape as gs
from gradscape.errors import ConfigError

torch.manual_seed(0)
N, T, F, C = 12, 5, 4, 3
SEQUENCES, LABELS = torch.randn(N, T, F), torch.arange(N) % C


def checked(
    make: Callable[[], nn.Module] | nn.Module, batch: Any, loss: Any = cross_entropy, **more: Any
) -> Any:
    more = {"remedies": False, "fit": 0, "seeds": 1} | more
    return gs.check(make, batch, loss, **more)


def verdicts(record: gs.CheckRecord) -> list[str]:
    return [finding.verdict for finding in record.diagnosis.findings]


def finding(record: gs.CheckRecord, verdict: str) -> Any:
    (found,) = [each for each in record.diagnosis.findings if each.verdict == verdict]
    assert all(symptom.counts for symptom in found.evidence)
    return found


class LastOf(nn.Module):
    """Output of a recurrent network at the last step, of x (N, T, F)."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(F, 8, batch_first=batch_first), nn.Linear(8, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class TimeFirst(nn.Module):
    """A recurrent network that wants time first and gets it by a transpose, or by a view that mixes."""

    def __init__(self, transposes: bool) -> None:
        super().__init__()
        self.transposes, self.rnn, self.head = transposes, nn.GRU(F, 8), nn.Linear(8, C)

    def forward(self, x: Tensor) -> Tensor:
        n, t, f = x.shape
        x = x.transpose(0, 1) if self.transposes else x.view(t, n, f)
        return self.head(self.rnn(x)[0][-1])


class Weighted(nn.Module):
    """A softmax that goes over an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis, self.score, self.head = axis, nn.Linear(F, F), nn.Linear(F, C)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, 0]
        return self.head(x * self.score(x).softmax(self.axis))


@pytest.mark.parametrize(
    ("make", "layer", "blamed", "cure"),
    [
        (lambda faulty: LastOf(not faulty), "rnn", "rnn (LSTM) has batch_first=False", "batch_first=True"),
        (lambda faulty: TimeFirst(not faulty), "rnn", "batch_first=False", "view or reshape where transpose"),
        (lambda faulty: Weighted(0 if faulty else 1), "head", "a softmax goes over axis 0", "dim=-1"),
    ],
    ids=["batch_first", "view", "softmax"],
)
def test_samples_that_are_mixed_are_told_with_layer_and_cause(
    make: Callable[[bool], nn.Module], layer: str, blamed: str, cure: str
) -> None:
    found = finding(checked(lambda: make(True), (SEQUENCES, LABELS)), "samples are mixed")
    assert found.layer == layer
    assert blamed in found.cause
    assert cure in found.remedy
    twin = checked(lambda: make(False), (SEQUENCES, LABELS))
    assert "samples are mixed" not in verdicts(twin)
    assert twin.diagnosis.grade != "fail"


def test_time_first_batches_are_not_mixed() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(F, 8), nn.Linear(8, C)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0])

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(output.flatten(0, 1), y.flatten())

    record = checked(Tagger, (SEQUENCES, torch.arange(N * T).view(N, T) % C), loss)
    assert record.diagnosis.grade != "fail"
    assert any("along the first axis and not along the second" in note for note in record.diagnosis.notes)


def test_nodes_of_a_graph_and_batch_statistics_are_no_mixed_samples() -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("adjacency", torch.eye(N).roll(1, 0) + torch.eye(N))
            self.only = nn.Linear(F, C)

        def forward(self, x: Tensor) -> Tensor:
            return self.adjacency @ self.only(x)

    for make in (
        Graph,
        lambda: nn.Sequential(nn.Linear(F, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, C)),
    ):
        assert checked(make, (SEQUENCES[:, 0], LABELS)).diagnosis.grade != "fail"


class Compares(nn.Module):
    """Similarities of each sample with each, or a class for each of as many."""

    def __init__(self, contrastive: bool, axis: int = 1) -> None:
        super().__init__()
        self.contrastive, self.axis, self.net = contrastive, axis, nn.Linear(F, N)

    def forward(self, x: Tensor) -> Tensor:
        values = self.net(x)
        return values @ values.T if self.contrastive else values.log_softmax(self.axis)


def test_similarities_of_samples_are_no_mixed_samples_and_as_many_classes_are_looked_at() -> None:
    batch = (SEQUENCES[:, 0], torch.arange(N))
    assert checked(lambda: Compares(True), batch).diagnosis.grade != "fail"
    assert checked(lambda: Compares(False), batch).diagnosis.grade != "fail"
    assert {"wrong axis", "samples are mixed"} <= set(
        verdicts(checked(lambda: Compares(False, axis=0), batch))
    )


class Ignores(nn.Module):
    def __init__(self, faulty: bool) -> None:
        super().__init__()
        self.faulty, self.net = faulty, nn.Linear(F, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.ones_like(x) if self.faulty else x)


def test_an_output_that_ignores_its_input_is_told() -> None:
    batch = (SEQUENCES[:, 0], LABELS)
    record = checked(lambda: Ignores(True), batch)
    assert record.verdict == "output ignores the input"
    assert "no operation leads from the input to it" in finding(record, record.verdict).cause
    assert checked(lambda: Ignores(False), batch).diagnosis.grade != "fail"


def test_a_softmax_over_an_axis_of_one_ignores_the_input() -> None:
    def make(axis: int) -> nn.Module:
        return nn.Sequential(nn.Linear(F, 1), nn.Softmax(axis))

    y = torch.rand(N, 1)
    over_one = verdicts(checked(lambda: make(1), (SEQUENCES[:, 0], y), mse_loss))
    assert {"output cannot reach the targets", "output ignores the input"} <= set(over_one)
    assert "samples are mixed" in verdicts(checked(lambda: make(0), (SEQUENCES[:, 0], y), mse_loss))


def test_features_that_nothing_depends_on_are_noted() -> None:
    class Some(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(2, C)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x[:, 1:3])

    notes = checked(Some, (SEQUENCES[:, 0], LABELS)).diagnosis.notes
    assert "no output depends on 2 features of 4 of the input: 0, 3" in notes
    assert not checked(lambda: nn.Linear(F, C), (SEQUENCES[:, 0], LABELS)).diagnosis.notes


class Causal(nn.Module):
    """Attention over positions whose mask begins on a diagonal above the main one."""

    def __init__(self, diagonal: int) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(7, 8), nn.Linear(8, 7)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mask = torch.ones(T, T, dtype=torch.bool).triu(diagonal)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        return self.head(x + self.attention(x, x, x, attn_mask=self.mask, need_weights=False)[0])


TOKENS = torch.arange(N * T).view(N, T) * 5 % 7


def next_token(output: Tensor, ids: Tensor) -> Tensor:
    return cross_entropy(output[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@pytest.mark.slow
def test_a_mask_that_is_off_by_one_sees_the_future() -> None:
    record = checked(lambda: Causal(2), (TOKENS, TOKENS), next_token, causal=True)
    found = finding(record, "sees the future")
    assert found.layer.startswith("attention")
    assert checked(lambda: Causal(1), (TOKENS, TOKENS), next_token, causal=True).diagnosis.grade != "fail"
    assert "sees the future" not in verdicts(checked(lambda: Causal(2), (TOKENS, TOKENS), next_token))


def test_causal_is_asked_of_an_output_with_positions() -> None:
    with pytest.raises(ConfigError, match=r"causal: expected an output at each position of the input; got"):
        checked(lambda: LastOf(True), (SEQUENCES, LABELS), causal=True)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (LABELS + 1, r"expected 0 … 2 for 3 outputs; got 1 … 3; they count from 1: subtract 1"),
        (LABELS - 1, r"got -1 … 1; leave -1 out by ignore_index=-1 \(it is -100 now\)"),
        (LABELS * 2, r"got 0 … 4; give the model 5 outputs, or correct the labels"),
    ],
)
def test_labels_out_of_range_are_refused_with_their_cure(labels: Tensor, says: str) -> None:
    with pytest.raises(ConfigError, match="loss: unusable labels: .*" + says):
        checked(lambda: nn.Linear(F, C), (SEQUENCES[:, 0], labels))


@pytest.mark.slow
def test_labels_that_teach_nothing_are_told() -> None:
    def of(labels: Tensor, outputs: int = C) -> gs.CheckRecord:
        return checked(lambda: nn.Linear(F, outputs), (SEQUENCES[:, 0], labels))

    for labels, words in ((LABELS * 0 + 2, "all 12 labels are 2"), (LABELS * 0 - 100, "every label is -100")):
        record = of(labels)
        assert words in finding(record, "unusable labels").cause
    assert "unusable labels" not in verdicts(of(LABELS))
    assert any("no label is 0" in note for note in of(LABELS + 1, C + 1).diagnosis.notes)


def test_the_first_loss_is_held_against_that_of_no_opinion() -> None:
    def scaled(scale: float) -> nn.Module:
        net = nn.Linear(F, C)
        nn.init.normal_(net.weight, std=scale)
        return net

    batch = (SEQUENCES[:, 0], LABELS)
    record = checked(lambda: scaled(30.0), batch)
    (evidence,) = finding(record, "initial loss too high").evidence
    assert evidence.value == pytest.approx(float(record.as_is.losses[0]) / torch.tensor(3.0).log())
    assert "1.1 for 3 classes alike (cross_entropy)" in str(record)
    assert "initial loss too high" not in verdicts(checked(lambda: scaled(0.5), batch))


def test_the_expectation_is_that_of_each_loss() -> None:
    y = torch.randn(N, 2) * 3 + 1
    record = checked(lambda: nn.Linear(F, 2), (SEQUENCES[:, 0], y), mse_loss)
    assert f"{float(y.square().mean()):.3g} for an output of 0 (mse_loss)" in record.facts[0]
    binary = checked(
        lambda: nn.Linear(F, 2), (SEQUENCES[:, 0], (y > 0).float()), binary_cross_entropy_with_logits
    )
    assert "0.693 for a probability of ½" in binary.facts[0]
    huge = checked(lambda: nn.Linear(F, 2), (SEQUENCES[:, 0], y / 1000), mse_loss)
    assert "initial loss too high" in verdicts(huge)


@pytest.mark.slow
def test_one_sample_is_the_cause_where_batchnorm_leaves_nothing_of_it() -> None:
    def make(norm: type[nn.Module]) -> nn.Module:
        pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, C))
        return nn.Sequential(nn.Conv2d(3, 8, 3), norm(8), *pooled)

    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    record = checked(lambda: make(nn.BatchNorm2d), (images[:1], LABELS[:1]))
    assert (record.verdict, record.diagnosis.layer) == ("BatchNorm of one sample", "1")
    assert "BatchNorm of one sample" not in verdicts(
        checked(lambda: make(nn.BatchNorm2d), (images, LABELS[:2]))
    )
    assert checked(lambda: make(nn.Identity), (images[:1], LABELS[:1])).diagnosis.grade != "fail"


def test_parameters_that_the_loss_does_not_reach_are_told() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(F, C), nn.Linear(F, C)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x)

    record = checked(TwoHeads, (SEQUENCES[:, 0], LABELS))
    found = finding(record, "unused layer")
    assert found.layer == "other.weight"
    assert "does not reach 2 parameters of 4" in found.cause
    assert "look for detach(), .data, numpy or torch.no_grad() after it" in found.remedy
    assert not [note for note in record.diagnosis.notes if "other.weight" in note]  # it is told once
    assert "unused layer" not in verdicts(checked(lambda: nn.Linear(F, C), (SEQUENCES[:, 0], LABELS)))


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ([nn.Linear(F, 8), nn.Linear(8, 8), nn.Linear(8, C)], True),
        ([nn.Linear(F, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, C)], False),
        ([nn.Linear(F, C)], False),
        ([nn.Linear(F, 2), nn.Linear(2, C)], False),  # a factorization
    ],
)
def test_layers_without_an_activation_between_them(layers: list[nn.Module], told: bool) -> None:
    record = checked(nn.Sequential(*layers), (SEQUENCES[:, 0], LABELS))
    assert ("no activation between layers" in verdicts(record)) == told
    if told:
        assert finding(record, "no activation between layers").grade == "warn"


def test_a_head_of_zeros_hides_nothing() -> None:
    """As mixers begin: the output is 0 for every sample until the first step."""

    def make(cut: bool) -> nn.Sequential:
        model = nn.Sequential(nn.Linear(F, 8), nn.ReLU(), *([Cut()] if cut else []), nn.Linear(8, C))
        nn.init.zeros_(model[-1].weight)
        return model

    batch = SEQUENCES[:, 0], LABELS
    assert "output ignores the input" not in verdicts(checked(lambda: make(cut=False), batch))
    assert "output ignores the input" in verdicts(checked(lambda: make(cut=True), batch))


class Cut(nn.Module):
    """What it gives is the same for every sample."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_ones(x.shape)
