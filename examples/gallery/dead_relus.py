"""ReLUs that died

The biases of the second layer stand at −10, as after one step that was far too large: its units are active on
no sample, and no gradient comes back through them. A watch that looks at outputs too names the layer. With
biases of 0 the network learns.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import gradscape as gs

torch.manual_seed(0)
x = torch.randn(1024, 20)
y = (x[:, 0] * x[:, 1] > 0).long()
for bias in (-10.0, 0.0):
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    nn.init.constant_(model[2].bias, bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    flow = gs.watch(model, optimizer, activations=True)
    for batch in torch.randint(len(x), (150, 64)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    print(f"biases of {bias:g}: {gs.diagnose(flow)}\n")
    plt.plot(flow.history().loss.values, label=f"biases of {bias:g}")
plt.gca().set(xlabel="step", ylabel="loss")
plt.legend()
