"""The Hessian's spectrum through training

Gradient descent on all samples at once. The largest eigenvalue rises until learning rate × eigenvalue is
about 2, where a quadratic would diverge, and stays there: the edge of stability (Cohen et al. 2021). The loss
falls all the same. The spectral density at the end has its bulk at 0 and a few eigenvalues far from it.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import gradscape as gs

digits, loss = gs.load_images("digits"), nn.functional.mse_loss
x = torch.from_numpy(digits.train_images[:256, ::2, ::2, 0].astype("float32") / 128 - 1).flatten(1)
y = nn.functional.one_hot(torch.from_numpy(digits.train_labels[:256].astype("int64")), 10).float()
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for step in range(801):
    if step % 100 == 0:
        curvature = gs.curvature(model, loss, (x, y), k=1, trace_products=0, optimizer=optimizer)
        print(f"step {step}: loss {curvature.loss:.3g}, {curvature.stability}")
        left.plot(step, curvature.largest * 0.5, "o", color="C0")
    optimizer.zero_grad()
    loss(model(x), y).backward()
    optimizer.step()
left.axhline(2, linestyle=":")
left.set(xlabel="step", ylabel="learning rate × largest eigenvalue")
gs.curvature(model, loss, (x, y), k=1, trace_products=0, probes=2).plot(right)
