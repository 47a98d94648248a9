"""Which learning rate

Copies are trained while the rate rises from step to step: too low, nothing happens; too high, the loss breaks
out. The rate to take is where the loss falls fastest, but at most a tenth of where it diverges; each stands
with its range over three seeds.
"""

import torch
from torch import nn

import gradscape as gs

digits = gs.load_images("digits")
x = torch.from_numpy(digits.train_images[..., 0].astype("float32") / 255).flatten(1)
y = torch.from_numpy(digits.train_labels.copy())
batches = [(x[i : i + 64], y[i : i + 64]) for i in range(0, 1280, 64)]


def make_net():
    return nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10))


rates = gs.lr_range(make_net, batches, nn.functional.cross_entropy, torch.optim.Adam)
print(rates)
rates.plot()
