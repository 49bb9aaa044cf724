import os
import sys

import torch
from lightning.fabric import Fabric

fabric = Fabric(accelerator="auto", devices=2, strategy="ddp")
fabric.launch()
fabric.seed_everything(7, verbose=False)
model = torch.nn.Linear(2, 1)
model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
data = torch.utils.data.TensorDataset(torch.arange(32.0).reshape(16, 2) / 32)
losses = []
for (batch,) in fabric.setup_dataloaders(torch.utils.data.DataLoader(data, batch_size=4)):
    loss = model(batch).pow(2).mean()
    fabric.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    losses.append(round(loss.item(), 5))
print("fabric", fabric.world_size, fabric.global_rank, fabric.device, losses)
fabric.barrier()
sys.stdout.flush()
os._exit(0)  # PyTorch may abort while the interpreter ends
