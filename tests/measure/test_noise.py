"""Noise of mini-batch gradients against closed forms and direct arithmetic in float64."""

from __future__ import annotations

import copy
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, TensorDataset

from gradscape._codec import encode
from gradscape.errors import ConfigError
from gradscape.measure import noise as noise_module
from gradscape.measure.noise import noise
from gradscape.records.noise import NoiseRecord, student_t

B = 4
MEAN = np.array([1.0, -0.5, 0.25, 0.0, 2.0])
SPREAD = np.array([1.0, 2.0, 0.5, 3.0, 1.0])


def linear() -> nn.Module:
    """Of the loss `mean` the gradient of a sample is the sample itself."""
    return nn.Linear(len(MEAN), 1, bias=False).double()


def mean(output: Tensor) -> Tensor:
    return output.mean()


def samples(count: int, seed: int, signal: float = 1.0) -> list[Tensor]:
    """Batches of B samples of N(signal · MEAN, SPREAD²)."""
    draws = np.random.default_rng(seed).standard_normal((count, B, len(MEAN)))
    return [torch.from_numpy(signal * MEAN + SPREAD * batch) for batch in draws]


def recorded(gradients: np.ndarray, batch_size: int = B) -> NoiseRecord:
    """Of gradients (K, n), without GSNR."""
    products = gradients @ gradients.T
    return NoiseRecord(batch_size, "batch", products, ("w",), ("linear",), (1,), np.array([1.0]), (0,), ())


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
    ).double()


def labelled(count: int = 7, size: int = 12) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    xs = torch.randn(count, size, 6, generator=generator, dtype=torch.float64)
    ys = torch.randint(3, (count, size), generator=generator)
    return list(zip(xs, ys, strict=True))


def by_hand(model: nn.Module, batches: list[tuple[Tensor, Tensor]], bn: str) -> list[np.ndarray]:
    """Of each parameter tensor the gradients (K, elements), by backward of a copy without dropout."""
    rows = []
    for x, y in batches:
        own = copy.deepcopy(model).eval()
        own[1].train(bn == "batch")
        cross_entropy(own(x), y).backward()
        rows.append([p.grad.numpy().ravel().copy() for p in own.parameters()])
    return [np.stack(each) for each in zip(*rows, strict=True)]


@pytest.mark.slow
def test_trace_and_square_are_unbiased() -> None:
    found = [noise(linear(), mean, samples(6, seed)) for seed in range(200)]
    for values, truth in (
        ([each.noise_trace for each in found], (SPREAD**2).sum()),
        ([each.gradient_square for each in found], (MEAN**2).sum()),
    ):
        assert abs(np.mean(values) - truth) < 3 * np.std(values) / math.sqrt(len(values))


def test_estimates_are_those_of_the_mean_and_the_covariance() -> None:
    batches = samples(9, 0)
    found = noise(linear(), mean, batches)
    gradients = np.stack([batch.numpy().mean(axis=0) for batch in batches])
    trace = np.trace(np.cov(gradients.T))
    square = (gradients.mean(axis=0) ** 2).sum() - trace / 9
    assert found.noise_trace == pytest.approx(B * trace, rel=1e-12)
    assert found.gradient_square == pytest.approx(square, rel=1e-12)
    assert found.noise_scale == pytest.approx(B * trace / square, rel=1e-12)
    assert found.step_gain == pytest.approx(1 / (1 + found.noise_scale / B))


@pytest.mark.parametrize("bn", ["batch", "running"])
def test_a_network_s_gradients_are_those_of_backward(bn: Any) -> None:
    model, batches = network(), labelled()
    layers = by_hand(model, batches, bn)
    found = noise(model, cross_entropy, batches, bn=bn)
    flat = np.concatenate(layers, axis=1)
    assert np.allclose(found.products, flat @ flat.T, rtol=1e-10)
    lengths = np.linalg.norm(flat, axis=1)
    pairs = np.triu_indices(len(flat), 1)
    products = (flat @ flat.T)[pairs]
    cosines = products / np.outer(lengths, lengths)[pairs]
    assert found.confusion == pytest.approx(max(0, -products.min()), rel=1e-10)
    assert found.mean_cosine == pytest.approx(cosines.mean(), rel=1e-10)
    assert found.least_cosine == pytest.approx(cosines.min(), rel=1e-10)


def test_gsnr_is_squared_mean_over_variance() -> None:
    model, batches = network(), labelled()
    layers = by_hand(model, batches, "running")  # by batch statistics the first bias has no gradient
    found = noise(model, cross_entropy, batches, bn="running")
    ratios = []
    for each in layers:
        variance = each.var(axis=0, ddof=1)
        varied = variance > 0
        ratios.append(each.mean(axis=0)[varied] ** 2 / variance[varied])
    assert found.layers == ("0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias")
    assert found.kinds == ("linear", "bias", "norm", "norm", "linear", "bias")
    assert np.allclose(found.gsnr, [each.mean() for each in ratios], rtol=1e-8)
    assert found.mean_gsnr == pytest.approx(np.concatenate(ratios).mean(), rel=1e-8)
    assert found.constant == tuple(
        each.shape[1] - len(ratio) for each, ratio in zip(layers, ratios, strict=True)
    )


def test_gsnr_of_a_large_tensor_is_of_all_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = noise(network(), cross_entropy, labelled())
    monkeypatch.setattr(noise_module, "BLOCK", 30)
    cut = noise(network(), cross_entropy, labelled())
    assert np.allclose(cut.gsnr, whole.gsnr, rtol=1e-10)
    assert np.allclose(cut.products, whole.products, rtol=1e-10)


def test_gsnr_of_mini_batches_is_that_of_samples_times_their_number() -> None:
    model = nn.Linear(4000, 1, bias=False).double()
    for size in (1, 8):
        x = 1 + np.random.default_rng(0).standard_normal((20, size, 4000))
        found = noise(model, mean, list(torch.from_numpy(x)))
        assert found.mean_gsnr == pytest.approx(19 / 17 * size + found.chance_gsnr, rel=0.02)


def test_gsnr_without_a_signal_is_chance() -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((12, B, 20_000)))
    found = noise(nn.Linear(20_000, 1, bias=False).double(), mean, list(x))
    assert found.chance_gsnr == pytest.approx(11 / 108)
    assert found.mean_gsnr == pytest.approx(found.chance_gsnr, rel=0.05)


def test_elements_without_variance_are_counted_and_left_out() -> None:
    batches = [
        torch.cat([x[:, :3], torch.tensor([[0.0, 0.1]]).double().expand(B, 2)], 1) for x in samples(8, 0)
    ]
    found = noise(linear(), mean, batches)
    varied = np.stack([batch.numpy().mean(axis=0)[:3] for batch in batches])
    assert found.constant == (2,)
    assert found.gsnr[0] == pytest.approx((varied.mean(axis=0) ** 2 / varied.var(axis=0, ddof=1)).mean())
    assert "2 constant elements left out" in str(found)


def test_the_interval_is_a_jackknife_of_the_inverse() -> None:
    batches = samples(8, 3, signal=3.0)
    found = noise(linear(), mean, batches)
    inverses = [1 / noise(linear(), mean, batches[:k] + batches[k + 1 :]).noise_scale for k in range(8)]
    error = math.sqrt(7 / 8 * np.sum((np.array(inverses) - np.mean(inverses)) ** 2))
    low, high = found.interval
    assert 1 / low == pytest.approx(1 / found.noise_scale + student_t(7) * error, rel=1e-10)
    assert 1 / high == pytest.approx(1 / found.noise_scale - student_t(7) * error, rel=1e-10)


@pytest.mark.parametrize("count", [4, 10, 30])
def test_the_interval_covers_the_noise_scale_as_often_as_it_says(count: int) -> None:
    generator, truth = np.random.default_rng(count), B * 25 / 25
    mean = np.full(25, 1.0)
    records = [recorded(mean + generator.standard_normal((count, 25))) for _ in range(200)]
    covered = np.mean([low <= truth <= high for low, high in (each.interval for each in records)])
    assert 0.88 <= covered <= 0.99


def test_the_interval_covers_too_where_noise_drowns_the_mean() -> None:
    generator = np.random.default_rng(0)
    truth, mean = B * 25 / 0.25, np.full(25, 0.1)
    records = [recorded(mean + generator.standard_normal((10, 25))) for _ in range(200)]
    covered = np.mean([low <= truth <= high for low, high in (each.interval for each in records)])
    assert covered >= 0.9
    assert any(math.isinf(each.noise_scale) for each in records)
    assert any(math.isfinite(each.noise_scale) for each in records)


def test_student_s_t_is_that_of_tables() -> None:
    table = {2: 4.303, 3: 3.182, 5: 2.571, 9: 2.262, 30: 2.042}
    for df, value in table.items():
        assert student_t(df) == pytest.approx(value, rel=0.04 if df < 5 else 0.002)


def test_the_same_batch_again_has_no_noise() -> None:
    found = noise(network(), cross_entropy, [labelled()[0]] * 5)
    assert found.noise_scale == 0
    assert found.interval == (0, 0)
    assert found.mean_cosine == pytest.approx(1)
    assert found.constant == found.sizes
    assert math.isnan(found.mean_gsnr)
    assert found.confusion == 0
    assert "GSNR: no parameter's gradient varies" in str(found)
    assert found.meaning == "all batches have the same gradient: are they the same batch?"


@pytest.mark.parametrize(
    ("spread", "meaning"),
    [
        (30.0, "batches of 4 samples are below the noise scale: larger ones still pay (a step gains 2.1 %"),
        (0.1, "batches of 4 samples are above the noise scale: larger ones gain little"),
        (5.0, "batches of 4 samples are near the noise scale, as far as 12 batches tell"),
    ],
)
def test_it_says_what_the_scale_means_for_the_batch_size(spread: float, meaning: str) -> None:
    generator = np.random.default_rng(0)
    noisy = recorded(1 + spread / 5 * generator.standard_normal((12, 400)))
    assert noisy.meaning.startswith(meaning)
    assert meaning in str(noisy)


def test_a_mean_that_noise_drowns_has_an_infinite_scale_and_is_told() -> None:
    opposed = np.array([[1.0, 0.0], [-1.0, 0.1], [0.0, -0.2], [0.1, 0.1]])
    found = recorded(opposed)
    assert found.gradient_square < 0
    assert found.noise_scale == math.inf
    assert found.step_gain == 0
    assert found.interval[1] == math.inf
    assert found.confusion == pytest.approx(1)
    assert found.least_cosine < -0.99
    assert found.meaning.startswith("the noise drowns the mean gradient of 4 batches: give more of them")
    assert "noise scale ∞ samples" in str(found)


def test_two_batches_tell_no_interval() -> None:
    found = noise(network(), cross_entropy, labelled(2))
    assert found.interval == (0, math.inf)
    assert found.chance_gsnr == math.inf
    assert found.noise_scale > 0
    assert any("the GSNR of 2 batches has an unbounded error: give 6" in note for note in found.notes)
    small = recorded(np.array([[1.0, 0.2], [1.0, -0.2]]))
    assert small.meaning == (
        "2 batches cannot tell whether 4 samples are below or above the noise scale: give more"
    )


def test_one_gradient_of_zero_has_no_cosine() -> None:
    found = recorded(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]))
    assert found.mean_cosine == pytest.approx(1 / math.sqrt(2))
    assert math.isnan(recorded(np.array([[0.0], [1.0]])).mean_cosine)


def test_gradients_whose_squares_underflow_are_measured() -> None:
    batches = [1e-25 * x.float() for x in samples(8, 0)]
    found = noise(nn.Linear(5, 1, bias=False), mean, batches)
    plain = noise(nn.Linear(5, 1, bias=False), mean, [x.float() for x in samples(8, 0)])
    assert found.noise_scale == pytest.approx(plain.noise_scale, rel=1e-5)
    assert np.allclose(found.gsnr, plain.gsnr, rtol=1e-5)


@pytest.mark.parametrize("bn", ["batch", "running"])
def test_the_model_is_left_as_found(bn: Any) -> None:
    model = network()
    cross_entropy(model(labelled()[0][0]), labelled()[0][1]).backward()
    model[4].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    held = [(p, p.grad, p.grad.clone()) for p in model.parameters() if p.grad is not None]
    modes, random = [module.training for module in model.modules()], torch.get_rng_state()
    noise(model, cross_entropy, labelled(size=70), bn=bn)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(held) == 6
    for parameter, (same, gradient, values) in zip(model.parameters(), held, strict=True):
        assert parameter is same
        assert parameter.grad is gradient
        assert torch.equal(gradient, values)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)


def test_large_batches_are_measured_whole_with_running_statistics() -> None:
    model, batches = network(), labelled(4, size=120)
    found = noise(model, cross_entropy, batches, bn="running")
    flat = np.concatenate(by_hand(model, batches, "running"), axis=1)
    assert found.batch_size == 120
    assert np.allclose(found.products, flat @ flat.T, rtol=1e-10)


def test_frozen_parameters_take_no_part() -> None:
    model = network()
    model[0].requires_grad_(False)
    found = noise(model, cross_entropy, labelled())
    assert found.layers == ("1.weight", "1.bias", "4.weight", "4.bias")
    flat = np.concatenate(by_hand(network(), labelled(), "batch")[2:], axis=1)
    assert np.allclose(found.products, flat @ flat.T, rtol=1e-10)
    assert "frozen, held as they are: 0.weight, 0.bias" in found.notes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_says_so(dtype: torch.dtype) -> None:
    model = network().to(dtype)
    batches = [(x.to(dtype), y) for x, y in labelled()]
    found = noise(model, cross_entropy, batches)
    wide = noise(copy.deepcopy(model).float(), cross_entropy, [(x.float(), y) for x, y in batches])
    assert np.allclose(found.products, wide.products, rtol=1e-4)
    assert f"{str(dtype).removeprefix('torch.')} parameters: computed in float32" in found.notes


def test_a_loader_is_asked_once_and_its_smaller_last_batch_left_out() -> None:
    x, y = torch.randn(40, 6, dtype=torch.float64), torch.arange(40) % 3
    asked = []

    def collate(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        asked.append(len(rows))
        return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])

    loader = DataLoader(TensorDataset(x, y), batch_size=12, shuffle=True, collate_fn=collate)
    found = noise(network(), cross_entropy, loader)
    assert asked == [12, 12, 12, 4]
    assert found.batch_size == 12
    assert found.products.shape == (3, 3)
    assert "4 batches of one pass of the loader, in the order it drew then" in found.notes
    assert "1 batch of 4 samples left out: the first has 12" in found.notes


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (lambda: labelled(1), "better 10, since noise is their difference; got 1"),
        (lambda: labelled(1)[0], "batches: expected at least 2 of one size"),
        (
            lambda: [*labelled(1, 12), *labelled(2, 4)],
            "since noise is their difference; got 3, only the first of 12 samples",
        ),
        (list, "batches: there is none"),
        (lambda: [(x * math.inf, y) if k == 2 else (x, y) for k, (x, y) in enumerate(labelled(4))],
         "batches: the gradient of batch 3 is not finite, first that of 0.weight; gradscape.watch with"),
    ],
)  # fmt: skip
def test_batches_that_tell_nothing_are_refused(batches: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        noise(network(), cross_entropy, batches())


def test_gradients_of_zero_are_refused() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.ReLU()).double()
    nn.init.constant_(model[0].bias, -100)
    with pytest.raises(ConfigError, match="every batch's gradient is 0: there is no noise to measure"):
        noise(model, lambda out, y: mse_loss(out, torch.ones_like(out)), labelled())


@pytest.mark.parametrize(
    ("free", "cure"),
    [(4096, r"give 2, as itertools.islice\(loader, 2\)$"), (1000, "freeze layers to leave them out$")],
)
def test_more_gradients_than_memory_holds_are_refused(
    monkeypatch: pytest.MonkeyPatch, free: int, cure: str
) -> None:
    monkeypatch.setattr(noise_module, "memory_free", lambda: float(free))
    message = "batches: the gradients of 7 batches take .* GB, half the free memory is .*: " + cure
    with pytest.raises(ConfigError, match=message):
        noise(network(), cross_entropy, labelled())


def test_a_statistics_mode_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="bn: expected one of batch, running; got 'eval'"):
        noise(network(), cross_entropy, labelled(), bn="eval")  # type: ignore[arg-type]


def test_the_record_is_plain_and_draws_itself() -> None:
    found = noise(network(), cross_entropy, labelled())
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["noise_scale"] == found.noise_scale
    assert plain["interval"] == encode(found.interval)
    assert len(plain["gsnr"]) == len(plain["layers"]) == 6
    axes = found.plot()
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "linear", "bias", "norm", "by chance",
    ]  # fmt: skip
    assert found.plot(axes) is axes
    first, second, *rest = str(found).splitlines()
    assert (
        first == "gradient noise of 99 parameters over 7 batches of 12 samples, BatchNorm's batch statistics"
    )
    plain_network = nn.Sequential(nn.Linear(6, 3), nn.LayerNorm(3)).double()
    without = noise(plain_network, cross_entropy, labelled())
    assert (found.bn, without.bn) == ("batch", "none")
    assert "statistics" not in str(without).splitlines()[0]
    assert second.startswith(f"noise scale {found.noise_scale:.3g} samples, 95 % interval ")
    assert rest[0] == found.meaning
    assert rest[1].startswith("GSNR of a batch: mean ")
    assert rest[2].startswith("cosine of two batches' gradients: mean ")


def test_the_record_needs_no_torch() -> None:
    code = "import sys, gradscape.records.noise; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
