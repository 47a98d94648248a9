"""A deep MLP whose gradients vanish

Thirty layers of tanh, drawn by Glorot & Bengio (2010) with a gain of 0.5, where PyTorch's gain for tanh is
5/3. What comes back to the first layer is millions of times smaller than what leaves the last, and Adam's ε
swallows its step. Drawn with that gain, the same network is healthy.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import gradscape as gs

digits = gs.load_images("digits")
x = torch.from_numpy(digits.train_images[..., 0].astype("float32") / 255).flatten(1) - 0.5
y = torch.from_numpy(digits.train_labels.copy())
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
for ax, gain in ((axes[0], 0.5), (axes[1], 5 / 3)):
    torch.manual_seed(0)
    layers = [nn.Linear(256 if i == 0 else 64, 64) for i in range(30)]
    for layer in layers:
        nn.init.xavier_normal_(layer.weight, gain)
    model = nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters())
    flow = gs.watch(model, optimizer)
    for batch in torch.randint(len(x), (60, 64)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    print(f"gain {gain:.2g}: {gs.diagnose(flow)}\n")
    gs.diagnose(flow).plot(ax).set_title(f"gain {gain:.2g}")
