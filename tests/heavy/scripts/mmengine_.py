"""MMEngine's Runner with a model of two weights, on the CPU."""

import os

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, data, label=None, mode="tensor"):  # noqa: ARG002 - MMEngine names it
        out = self.layer(data)
        return {"loss": out.pow(2).mean()} if mode == "loss" else out


data = [(torch.ones(2) * number, number) for number in range(32)]
# MMEngine 0.10 itself asks for a CUDA device before it makes the group.
torch.distributed.init_process_group("gloo")
runner = Runner(
    model=Model(),
    work_dir="work",
    train_dataloader=dict(
        batch_size=4,
        num_workers=1,
        dataset=data,
        sampler=dict(type="DefaultSampler", shuffle=True),
        collate_fn=dict(type="default_collate"),
    ),
    train_cfg=dict(by_epoch=True, max_epochs=1),
    optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.001)),
    launcher="pytorch",
    # Without a wrapper of its own choice it names a CUDA device for each rank, too.
    cfg=dict(model_wrapper_cfg=dict(type="MMDistributedDataParallel", device_ids=None)),
    env_cfg=dict(dist_cfg=dict(backend="gloo")),
    default_hooks=dict(checkpoint=None, logger=None),
    log_level="ERROR",
)
runner.train()
weights = [torch.zeros(1, 2) for _ in range(2)]
model = runner.model.module if hasattr(runner.model, "module") else runner.model
torch.distributed.all_gather(weights, model.layer.weight.detach())
print(
    "done",
    runner.world_size,
    runner.rank,
    runner.iter,
    type(runner.model).__name__,
    torch.equal(*weights),
    flush=True,
)
torch.distributed.barrier()
os._exit(0)  # PyTorch may abort while the interpreter ends
