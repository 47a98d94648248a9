"""The loss around a minimum, with BatchNorm and without

Two convolutional networks that differ by BatchNorm alone, both trained. Each plane goes through the trained
weights, along two random directions scaled filter by filter (Li et al. 2018), and numbers of the basin stand
beside it. One seed and one plane decide nothing: the studies ask the same over seeds.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import gradscape as gs

digits = gs.load_images("digits")
x = torch.from_numpy(digits.train_images[..., 0].astype("float32") / 255).unsqueeze(1)
y = torch.from_numpy(digits.train_labels.copy())
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for ax, name, norm in (
    (axes[0], "without", nn.Identity),
    (axes[1], "with BatchNorm", lambda: nn.BatchNorm2d(8)),
):
    torch.manual_seed(0)
    body = [
        part for i in range(4) for part in (nn.Conv2d(8 if i else 1, 8, 3, 1 if i else 2), norm(), nn.ReLU())
    ]
    model = nn.Sequential(*body, nn.Flatten(), nn.LazyLinear(10))
    model(x[:2])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for batch in torch.randint(len(x), (150, 64)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    plane = gs.landscape(model, nn.functional.cross_entropy, (x[:256], y[:256]), points=15)
    print(f"{name}: {plane}\n")
    plane.plot(ax).set_title(name)
