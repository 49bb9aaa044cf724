import os
import sys

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

cfg = Config({"launcher": "pytorch", "env_cfg": {"dist_cfg": {"backend": "nccl"}}})

# fmt: off
# 2. 初始化分布式环境 (让MMEngine按标准方式初始化)
if cfg.get('launcher', 'none') == 'pytorch':
    from mmengine.dist import init_dist
    init_dist(launcher='pytorch', backend=cfg.env_cfg.dist_cfg.get('backend', 'eccl'))
    print("🔧 MMEngine分布式环境初始化完成")
# fmt: on
rank, world_size = dist.get_rank(), dist.get_world_size()
print(f"🔧 分布式环境初始化完成 - Rank {rank}/{world_size}, Backend: {dist.get_backend()}")


class Points(Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, index):
        point = torch.linspace(-1, 1, 4) * (index + 1) / 32
        return {"inputs": point, "target": point.sum(0, keepdim=True)}


class Small(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, inputs, target, mode="tensor"):
        out = self.layer(inputs)
        if mode == "loss":
            return {"loss": torch.nn.functional.mse_loss(out, target)}
        return out


runner = Runner(
    model=Small(),
    work_dir="work_dir",
    train_dataloader={
        "batch_size": 2,
        "sampler": {"type": "DefaultSampler", "shuffle": True},
        "collate_fn": {"type": "default_collate"},
        "dataset": Points(),
    },
    train_cfg={"by_epoch": True, "max_epochs": 2},
    optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
    default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 1}},
    launcher="pytorch",
)
runner.train()
dist.barrier()
weights = [torch.zeros(1, 4) for _ in range(world_size)]
dist.all_gather(weights, runner.model.module.layer.weight.data)
is_same = all(torch.equal(weight, weights[0]) for weight in weights)
print("trained", type(runner.model).__name__, is_same, os.path.exists("work_dir/epoch_2.pth"))
sys.stdout.flush()
os._exit(0)  # PyTorch may abort while the interpreter ends
