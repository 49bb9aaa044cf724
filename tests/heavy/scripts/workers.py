"""Processes that a rank starts: workers of a DataLoader, and torch.multiprocessing."""

import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils.data import DataLoader, Dataset


class Data(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        worker = torch.utils.data.get_worker_info()
        return torch.tensor([index, worker.id, worker.num_workers])


def double(tensor):
    return tensor * 2


def spawned(index, queue, rank):
    queue.put((index, rank, os.environ["RANK"]))


def main():
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    for method in ("fork", "spawn", "forkserver"):
        loader = DataLoader(Data(), batch_size=3, num_workers=2, multiprocessing_context=method)
        for _ in range(2):
            rows = torch.cat(list(loader))
        print(
            "loader", method, rows[:, 0].tolist() == list(range(12)), rows[:, 1:].max(0)[0].tolist()
        )
        with mp.get_context(method).Pool(2) as pool:
            print(
                "pool", method, torch.cat(pool.map(double, [torch.ones(1), torch.ones(1)])).tolist()
            )
    queue = mp.get_context("spawn").SimpleQueue()
    mp.spawn(spawned, args=(queue, rank), nprocs=2)
    said = sorted(queue.get() for _ in range(2))
    print("spawn", said == [(0, rank, str(rank)), (1, rank, str(rank))])
    seeds = [None, None]
    iterator = iter(DataLoader(Data(), num_workers=1))
    dist.all_gather_object(seeds, iterator._base_seed)
    print("seeds of workers differ", seeds[0] != seeds[1])
    del iterator
    number = torch.ones(1)
    dist.all_reduce(number)
    print("sum", int(number), flush=True)
    dist.barrier()
    os._exit(0)  # PyTorch may abort while the interpreter ends


if __name__ == "__main__":
    main()
