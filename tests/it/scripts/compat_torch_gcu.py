"""Stands in for Enflame's plugin: devices that only say what they are told, gloo for eccl."""

import types

import torch
import torch.distributed as dist


def set_device(device):
    print("torch.gcu.set_device", device, flush=True)


def eccl(store, rank, size, timeout):
    return dist.ProcessGroupGloo(store, rank, size, timeout)


torch.gcu = types.SimpleNamespace(
    set_device=set_device, device_count=lambda: 8, is_available=lambda: True
)
dist.Backend.register_backend("eccl", eccl, devices=["cpu"])
