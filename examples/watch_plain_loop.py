"""Gradients and outputs in a loop of your own: one line to watch them, one to write them where you look."""

import torch

import gradscape as gs
from gradscape.integrations import trackers

layers = [layer for _ in range(12) for layer in (torch.nn.Linear(32, 32), torch.nn.Sigmoid())]
model = torch.nn.Sequential(*layers)
optimizer = torch.optim.Adam(model.parameters())

flow = gs.watch(model, optimizer, activations=True)
with trackers.JsonLines("gradients.jsonl").follow(flow, every=10):  # or TensorBoard, WandB, MLflow
    for _ in range(30):
        optimizer.zero_grad()
        model(torch.randn(64, 32)).square().mean().backward()
        optimizer.step()

history = flow.history()
print(history)
for layer, gradient in zip(history.layers, history.mean_abs[-1], strict=True):
    print(f"{layer:<12} mean |∂L/∂W| {gradient:.1e}")
print(gs.diagnose(flow))
