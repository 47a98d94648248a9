"""Every layer's gradient in several processes: what is read is their mean, and the first process writes it.

torchrun --standalone --nproc-per-node 2 watch_ddp.py
"""

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import gradscape as gs
from gradscape.integrations import trackers

dist.init_process_group("gloo")
torch.manual_seed(dist.get_rank())  # data of its own; DDP starts from the first process's weights
layers = [layer for _ in range(6) for layer in (torch.nn.Linear(32, 32), torch.nn.Tanh())]
model = DistributedDataParallel(torch.nn.Sequential(*layers))
optimizer = torch.optim.Adam(model.parameters())

flow = gs.watch(model, optimizer)
with trackers.JsonLines("gradients.jsonl").follow(flow):
    for _ in range(10):
        optimizer.zero_grad()
        model(torch.randn(32, 32)).square().mean().backward()
        optimizer.step()

if dist.get_rank() == 0:
    print(flow.history())
dist.barrier()  # a process that leaves first may take the other's connection down
dist.destroy_process_group()
