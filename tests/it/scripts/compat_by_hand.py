import multiprocessing
import os
import subprocess
import sys

import torch
import torch.distributed as dist
from torch.distributed import init_process_group
from torch.nn.parallel import DistributedDataParallel


def worker(queue):
    torch.cuda.set_device(0)
    queue.put("worker set its device")


if __name__ == "__main__":
    local_rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(local_rank)
    torch.cuda.set_device(torch.device("cuda", local_rank))
    init_process_group("nccl", device_id=torch.device("cuda", local_rank))
    model = torch.nn.Linear(2, 1)
    torch.nn.init.ones_(model.weight)
    model = DistributedDataParallel(model, device_ids=[local_rank], output_device=local_rank)
    model(torch.full((1, 2), dist.get_rank() + 1.0)).sum().backward()
    group = dist.new_group([0, 1], backend="cpu:gloo,cuda:nccl")
    print("backends", dist.get_backend(), dist.get_backend(group))
    print("gradient", model.module.weight.grad.tolist())
    if os.environ.get("WITH_WORKERS") and local_rank == 0:
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        process = context.Process(target=worker, args=(queue,))
        process.start()
        print(queue.get(timeout=120))
        process.join()
        program = "import torch; torch.cuda.set_device(0); print('program set its device')"
        subprocess.run([sys.executable, "-c", program], check=True)
        import mine

        print("mine", mine.VALUE, os.environ["PYTHONPATH"].split(":", 1)[1])
    dist.barrier()
    sys.stdout.flush()
    os._exit(0)  # PyTorch may abort while the interpreter ends
