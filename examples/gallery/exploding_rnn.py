"""An RNN whose gradients explode

Its recurrent matrix is 1.3 times an orthogonal one, so that a gradient grows with every step back in time.
One step of SGD later the loss is a billion, and after the second it is not finite. With the orthogonal matrix
itself the network is healthy.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import gradscape as gs

for gain in (1.3, 1.0):
    torch.manual_seed(0)
    rnn, head = nn.RNN(8, 32, nonlinearity="relu", batch_first=True), nn.Linear(32, 2)
    nn.init.orthogonal_(rnn.weight_hh_l0, gain)
    model = nn.ModuleList([rnn, head])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    for step in range(80):
        x = torch.randn(32, 40, 8, requires_grad=True)
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(rnn(x)[0][:, -1]), (x[:, -1, 0] > 0).long()).backward()
        optimizer.step()
        if step == 0:
            plt.semilogy(x.grad.norm(dim=(0, 2)), label=f"{gain:g} times orthogonal")
    print(f"{gain:g} times orthogonal: {gs.diagnose(flow)}\n")
plt.gca().set(xlabel="place in the sequence", ylabel="‖∂L/∂x‖ before the first step")
plt.legend()
