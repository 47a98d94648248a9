"""Gradients that are not cleared

A loop without `optimizer.zero_grad()`: every step uses the sum of all gradients so far. The loss of such a
loop looks like that of a learning rate that is too large; the watch sees that nothing clears them.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import gradscape as gs

digits = gs.load_images("digits")
x = torch.from_numpy(digits.train_images[..., 0].astype("float32") / 255).flatten(1)
y = torch.from_numpy(digits.train_labels.copy())
for clears in (False, True):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    for batch in torch.randint(len(x), (150, 64)):
        if clears:
            optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    print(f"{'cleared' if clears else 'not cleared'}: {gs.diagnose(flow)}\n")
    plt.plot(flow.history().loss.values, label="cleared" if clears else "not cleared")
plt.gca().set(xlabel="step", ylabel="loss")
plt.legend()
