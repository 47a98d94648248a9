"""Every layer's gradient in Lightning: one callback."""

import torch
from pytorch_lightning import LightningModule, Trainer

import gradscape as gs
from gradscape.integrations import trackers
from gradscape.integrations.lightning import WatchCallback


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        layers = [layer for _ in range(6) for layer in (torch.nn.Linear(32, 32), torch.nn.Tanh())]
        self.net = torch.nn.Sequential(*layers)

    def training_step(self, batch, index):
        return self.net(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


loader = torch.utils.data.DataLoader(torch.randn(640, 32), batch_size=32)
seen = WatchCallback(sinks=[trackers.JsonLines("gradients.jsonl")])
Trainer(
    max_epochs=1,
    accelerator="cpu",
    gradient_clip_val=0.1,  # gradients are read before it
    callbacks=[seen],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
).fit(Net(), loader)
history = seen.flow.history()
print(history)
print(gs.diagnose(history))
