"""Gradient statistics of your own model in your own loop: three lines more, the weights unchanged."""

import torch

from gradscape import FlowRecorder

model = torch.nn.Sequential(
    *(layer for _ in range(20) for layer in (torch.nn.Linear(32, 32), torch.nn.Sigmoid()))
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
recorder = FlowRecorder(model)
for _ in range(10):
    optimizer.zero_grad()
    model(torch.randn(64, 32)).square().mean().backward()
    recorder.before_step()
    optimizer.step()
    recorder.after_step()
flow = recorder.result()
print(flow)
for name, gradient, update in zip(flow.layers, flow.mean_abs[0], flow.relative_update[0], strict=True):
    print(f"{name:<12} mean |∂L/∂W| {gradient:.1e}   ‖ΔW‖/‖W‖ {update:.1e}")
