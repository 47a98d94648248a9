"""A transformer without warm-up

Six blocks with the norm behind each, and Adam at 0.01 from the first step: soon all samples are given one
class, and the loss stays at guessing's. With a rate that rises to 0.01 over a hundred steps the same network
learns; see Xiong et al. (2020), *On Layer Normalization in the Transformer Architecture*.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import gradscape as gs

digits = gs.load_images("digits")
rows = torch.from_numpy(digits.train_images[:, ::2, ::2, 0].astype("float32") / 255)  # 8 tokens of 8 pixels
x = torch.cat([rows, torch.eye(8).expand(len(rows), 8, 8)], dim=2)  # and their places
y = torch.from_numpy(digits.train_labels.copy())
for warmup in (1, 100):
    torch.manual_seed(0)
    blocks = [nn.TransformerEncoderLayer(32, 4, 128, dropout=0.0, batch_first=True) for _ in range(6)]
    model = nn.Sequential(nn.Linear(16, 32), *blocks, nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=warmup)
    flow = gs.watch(model, optimizer)
    for batch in torch.randint(len(x), (150, 32)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]).mean(1), y[batch]).backward()
        optimizer.step()
        schedule.step()
    print(f"warm-up of {warmup}: {gs.diagnose(flow)}\n")
    plt.plot(flow.history().loss.values, label=f"warm-up of {warmup}")
plt.gca().set(xlabel="step", ylabel="loss")
plt.legend()
