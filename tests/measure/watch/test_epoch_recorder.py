"""Gradient statistics against plain float64 arithmetic, and the model left as found."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gradscape.errors import ConfigError
from gradscape.measure.core.parameter_kinds import parameters_and_kinds
from gradscape.measure.watch.epoch_recorder import FlowRecorder
from gradscape.nets import vgg


def model_and_batches() -> tuple[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]]:
    torch.manual_seed(0)
    model = vgg(blocks=1, classes=5, image_size=8, filters=3, norm_where="everywhere", seed=3)
    batches = [(torch.randn(n, 3, 8, 8), torch.randint(0, 5, (n,))) for n in (6, 6, 4)]
    return model.to(memory_format=torch.channels_last), batches


def test_every_statistic_equals_direct_arithmetic() -> None:
    model, batches = model_and_batches()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    recorder, rows = FlowRecorder(model), []
    names = [n for n, p in model.named_parameters()]
    for x, y in batches:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        next(model.parameters()).grad[0].zero_()  # some exact zeros
        before = [p.detach().double().numpy().copy() for p in model.parameters()]
        grads = [p.grad.double().numpy().copy() for p in model.parameters()]
        recorder.before_step()
        optimizer.step()
        recorder.after_step()
        after = [p.detach().double().numpy().copy() for p in model.parameters()]
        rows.append((before, grads, after))
    flow = recorder.result()
    assert list(flow.layers) == names
    norm, close = np.linalg.norm, {"rtol": 1e-6, "atol": 1e-12}
    for i in range(len(names)):
        g = [grads[i] for _, grads, _ in rows]
        w = [norm(before[i]) for before, _, _ in rows]
        d = [norm(after[i] - before[i]) for before, _, after in rows]
        assert np.allclose(flow.mean_abs[0, i], np.mean([np.abs(x).mean() for x in g]), **close)
        assert np.allclose(flow.last_mean_abs[0, i], np.abs(g[-1]).mean(), **close)
        assert np.allclose(flow.rms[0, i], np.sqrt(np.mean([(x**2).mean() for x in g])), **close)
        assert np.allclose(flow.max_abs[0, i], max(np.abs(x).max() for x in g), **close)
        assert np.allclose(flow.zeros[0, i], np.mean([(x == 0).mean() for x in g]), **close)
        assert flow.nonfinite[0, i] == 0
        relative = [norm(x) / v if v else 0 for x, v in zip(g, w, strict=True)]
        assert np.allclose(flow.relative[0, i], np.mean(relative), **close)
        update = [x / v if v else 0 for x, v in zip(d, w, strict=True)]
        assert np.allclose(flow.relative_update[0, i], np.mean(update), rtol=1e-4, atol=1e-12)
        assert np.allclose(flow.weight[0, i], np.mean(w), **close)


def test_parameters_that_are_single_numbers_are_recorded_too() -> None:
    model = nn.Module()
    model.scale, model.shift = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))
    recorder = FlowRecorder(model)
    (model.scale * 5 + model.shift * 7).backward()
    recorder.before_step()
    recorder.after_step()
    flow = recorder.result()
    assert flow.mean_abs.tolist() == flow.max_abs.tolist() == [[5.0, 7.0]]
    assert flow.relative[0] == pytest.approx((5 / 2, 7 / 3))


def test_kinds_are_told_apart() -> None:
    flow_kinds = dict(zip(*(lambda r: (r.names, r.kinds))(FlowRecorder(model_and_batches()[0])), strict=True))
    assert flow_kinds["stage1.0.conv1.weight"] == "conv"
    assert flow_kinds["stage1.1.conv1.bias"] == "bias"
    assert flow_kinds["stage1.0.norm1.weight"] == flow_kinds["stage1.0.norm1.bias"] == "norm"
    assert flow_kinds["linear.weight"] == "linear"


def test_tensors_that_are_no_matrices_by_design_are_no_weights() -> None:
    class Others(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
            self.pos_embed = nn.Parameter(torch.zeros(1, 5, 8))
            self.gamma = nn.Parameter(torch.full((8, 1, 1), 1e-6))
            self.temperature = nn.Parameter(torch.ones(()))
            self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
            self.experts = nn.Parameter(torch.zeros(3, 8, 8))
            self.slope, self.head, self.conv = nn.PReLU(), nn.Linear(8, 1), nn.Conv2d(1, 1, 1)

    kinds = {name: kind for name, kind, _ in parameters_and_kinds(Others())}
    assert kinds == {
        "cls_token": "scale",
        "pos_embed": "embedding",
        "gamma": "scale",
        "temperature": "scale",
        "relative_position_bias_table": "bias",
        "experts": "linear",
        "slope.weight": "scale",
        "head.weight": "linear",
        "head.bias": "bias",
        "conv.weight": "conv",
        "conv.bias": "bias",
    }


def test_vanishing_gradients_keep_their_size() -> None:
    """1e-30 squared is no float32: the squares are taken in float64."""
    model = nn.Linear(4, 3, bias=False)
    recorder = FlowRecorder(model)
    model.weight.grad = torch.full((3, 4), 1e-30)
    recorder.before_step()
    recorder.after_step()
    flow = recorder.result()
    assert flow.mean_abs[0, 0] == pytest.approx(1e-30, rel=1e-6)
    assert flow.rms[0, 0] == pytest.approx(1e-30, rel=1e-6)
    assert flow.relative_update[0, 0] == 0


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ConfigError, match="ReLU has no trainable parameters"):
        FlowRecorder(nn.ReLU())


def test_nonfinite_gradients_are_counted() -> None:
    model = nn.Linear(4, 1, bias=False)
    recorder = FlowRecorder(model)
    model.weight.grad = torch.tensor([[1.0, torch.nan, torch.inf, -torch.inf]])
    recorder.before_step()
    recorder.after_step()
    assert recorder.result().nonfinite[0, 0] == 0.75


def test_a_layer_without_gradient_counts_as_zeros() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    recorder = FlowRecorder(model)
    model[1](torch.ones(1, 2)).sum().backward()
    recorder.before_step()
    recorder.after_step()
    flow = recorder.result()
    assert flow.zeros[0, :2].tolist() == [1.0, 1.0]
    assert flow.mean_abs[0, 2] == 1.0


def test_training_with_and_without_recording_is_bitwise_equal() -> None:
    model, batches = model_and_batches()
    plain = copy.deepcopy(model)
    for net, watched in ((model, True), (plain, False)):
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        recorder = FlowRecorder(net)
        for x, y in batches:
            optimizer.zero_grad()
            cross_entropy(net(x), y).backward()
            if watched:
                recorder.before_step()
            optimizer.step()
            if watched:
                recorder.after_step()
    for a, b in zip(model.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_gradient_of_exact_zeros_is_zero_where_denormals_are_flushed() -> None:
    """As in training on CPUs: a number below the smallest normal one would be 0, and 0/0 is none."""
    model = nn.Linear(3, 2)
    recorder = FlowRecorder(model)
    model.weight.grad, model.bias.grad = torch.zeros(2, 3), torch.zeros(2)
    torch.set_flush_denormal(True)
    try:
        recorder.before_step()
        recorder.after_step()
        flow = recorder.result()
    finally:
        torch.set_flush_denormal(False)
    assert flow.rms.tolist() == flow.max_abs.tolist() == flow.relative.tolist() == [[0.0, 0.0]]
    assert flow.zeros.tolist() == [[1.0, 1.0]]
