"""A watch in Lightning

The optimizer was given the head's parameters alone, a slip of fine-tuning, while the body was meant to learn
too. One callback watches the Trainer's own loop, and says what the optimizer does not have.
"""

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import nn

import gradscape as gs
from gradscape.integrations.lightning import WatchCallback


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(20, 64), nn.Tanh()), nn.Linear(64, 2)

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.head(self.body(batch)), (batch[:, 0] > 0).long())

    def configure_optimizers(self):
        return torch.optim.Adam(self.head.parameters())


seen = WatchCallback()
loader = torch.utils.data.DataLoader(torch.randn(3200, 20), batch_size=32)
Trainer(
    max_epochs=1,
    accelerator="cpu",
    callbacks=[seen],
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
).fit(Net(), loader)
print(gs.diagnose(seen.flow))
seen.flow.history().loss.plot()
