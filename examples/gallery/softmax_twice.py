"""Softmax twice

The network ends in a softmax, and `cross_entropy` applies another: the loss cannot fall below 1.46, however
good the network becomes. Autograd's graph shows both, and the verdict names the floor. Without the layer the
loss goes on to fall.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import gradscape as gs

digits = gs.load_images("digits")
x = torch.from_numpy(digits.train_images[..., 0].astype("float32") / 255).flatten(1)
y = torch.from_numpy(digits.train_labels.copy())
for name, last in (("softmax twice", [nn.Softmax(dim=1)]), ("once", [])):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10), *last)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    flow = gs.watch(model, optimizer)
    for batch in torch.randint(len(x), (100, 64)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    print(f"{name}: {gs.diagnose(flow)}\n")
    plt.plot(flow.history().loss.values, label=name)
plt.axhline(1.46, color="gray", linestyle=":")
plt.gca().set(xlabel="step", ylabel="loss")
plt.legend()
