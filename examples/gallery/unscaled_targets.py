"""Targets that are not scaled

Prices of some 300,000 are asked of a network whose outputs begin near 0: after 300 steps it is nowhere near
them. The watch compares outputs with targets. Standardized targets, undone after predicting, are learned in
as many steps.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import gradscape as gs

torch.manual_seed(0)
x = torch.randn(1000, 8)
price = 300_000 + 80_000 * torch.tanh(x @ torch.randn(8, 1)) + 10_000 * torch.randn(1000, 1)
for name, mean, scale in (("as they are", 0.0, 1.0), ("standardized", price.mean(), price.std())):
    y = (price - mean) / scale
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(model.parameters())
    flow = gs.watch(model, optimizer)
    for batch in torch.randint(len(x), (300, 64)):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[batch]), y[batch]).backward()
        optimizer.step()
    print(f"{name}: {gs.diagnose(flow)}\n")
    plt.plot(price, (model(x) * scale + mean).detach(), ".", label=f"targets {name}")
plt.gca().set(xlabel="price", ylabel="predicted")
plt.legend()
