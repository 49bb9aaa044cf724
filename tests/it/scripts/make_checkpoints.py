"""Writes one small checkpoint folder of each layout, with an older and a newer checkpoint in it.

make_checkpoints.py FOLDER

The bytes are torch's own (torch.save, torch.distributed.checkpoint.save). Names of files and
folders are the frameworks'; safetensors is written by hand, after its specification.
FOLDER/cases.json says what is where: `files` are those of the newer checkpoint, in the order in
which its framework writes them; below FOLDER/again lie the same files as a second save of the same
step leaves them.
"""

import argparse
import json
import os
import struct
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

warnings.filterwarnings("ignore")
OLDER, NEWER = 10, 20
CASES = []


def tensor(seed, size=16384):
    """64 KiB of numbers, others for each seed."""
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def save(path, value, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path, **options)


def text(path, words):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(words)


def shards(folder, seed, others=None):
    """What torch.distributed.checkpoint writes, in several files; the names of its files."""
    state = {"model": {f"w{i}": tensor(seed + i) for i in range(3)}, **(others or {"step": seed})}
    folder.mkdir(parents=True, exist_ok=True)
    writer = dcp.FileSystemWriter(folder, single_file_per_rank=False)
    dcp.save(state, storage_writer=writer, no_dist=True)
    return [*sorted(path.name for path in folder.glob("*.distcp")), ".metadata"]


def safetensors(path, seed):
    data = tensor(seed).numpy().tobytes()
    header = {
        "__metadata__": {"format": "pt"},
        "w": {"dtype": "F32", "shape": [16384], "data_offsets": [0, len(data)]},
    }
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)


def case(name, layout, write, older, newer, pointer=None, world=2, pattern=None, marker=None):
    """Writes both, and the newer one again; `write(folder, seed, step)` names the files."""
    write(Path(name), 1, OLDER)
    files = write(Path(name), 2, NEWER)
    write(Path("again") / name, 3, NEWER)
    CASES.append(
        {
            "name": name,
            "layout": layout,
            "older": older,
            "newer": newer,
            "files": files,
            "pointer": pointer,
            "world": world,
            "pattern": pattern,
            "marker": marker,
        }
    )


def below(folder, names):
    return [f"{folder}/{name}" for name in names]


def write_dcp(folder, seed, step):
    return below(f"step_{step}", shards(folder / f"step_{step}", seed))


def write_torchtitan(folder, seed, step):
    state = {"train_state": {"step": step}, "optimizer": {"state": tensor(seed + 9)}}
    return below(f"step-{step}", shards(folder / f"step-{step}", seed, state))


def deepspeed_model(seed, step, has_parts):
    return {
        "module": {"w": tensor(seed)},
        "optimizer": None if has_parts else {"state": tensor(seed)},
        "param_shapes": [{"w": torch.Size([16384])}] if has_parts else None,
        "global_steps": step,
        "dp_world_size": 2,
        "mp_world_size": 1,
        "ds_version": "0.17",
    }


def deepspeed_part(seed):
    return {"optimizer_state_dict": {"fp32": [tensor(seed)], "partition_count": [2]}}


def write_deepspeed(folder, seed, step):
    tag = f"global_step{step}"
    names = ["mp_rank_00_model_states.pt"]
    save(folder / tag / names[0], deepspeed_model(seed, step, True))
    for rank in range(2):
        names.append(f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
        save(folder / tag / names[-1], deepspeed_part(seed + rank))
    text(folder / "latest", tag)
    return below(tag, names)


def write_deepspeed_3(folder, seed, step):
    tag = f"global_step{step}"
    names = []
    for rank in range(2):
        names.append(f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
        save(folder / tag / names[-1], deepspeed_model(seed + rank, step, True))
    for rank in range(2):
        names.append(f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
        save(folder / tag / names[-1], deepspeed_part(seed + rank))
    text(folder / "latest", tag)
    return below(tag, names)


def write_deepspeed_0(folder, seed, step):
    """Without ZeRO, under a tag of the user's own."""
    tag = f"after-{step}"
    save(folder / tag / "mp_rank_00_model_states.pt", deepspeed_model(seed, step, False))
    text(folder / "latest", tag)
    return [f"{tag}/mp_rank_00_model_states.pt"]


def trainer_state(folder, step):
    text(folder / "trainer_state.json", json.dumps({"global_step": step, "epoch": 1.0}))


def write_hf(folder, seed, step):
    one = folder / f"checkpoint-{step}"
    safetensors(one / "model.safetensors", seed)
    text(one / "config.json", json.dumps({"model_type": "test"}))
    save(one / "training_args.bin", argparse.Namespace(learning_rate=0.1))
    save(one / "optimizer.pt", {"state": tensor(seed)})
    save(one / "scheduler.pt", {"last_epoch": step})
    for rank in range(2):
        save(one / f"rng_state_{rank}.pth", {"cpu": torch.get_rng_state()})
    trainer_state(one, step)
    return below(
        one.name,
        [
            "config.json",
            "model.safetensors",
            "training_args.bin",
            "optimizer.pt",
            "scheduler.pt",
            "rng_state_0.pth",
            "rng_state_1.pth",
            "trainer_state.json",
        ],
    )


def write_hf_fsdp(folder, seed, step):
    one = folder / f"checkpoint-{step}"
    names = below("pytorch_model_fsdp_0", shards(one / "pytorch_model_fsdp_0", seed))
    names += below("optimizer_0", shards(one / "optimizer_0", seed + 7))
    save(one / "scheduler.pt", {"last_epoch": step})
    for rank in range(2):
        save(one / f"rng_state_{rank}.pth", {"cpu": torch.get_rng_state()})
    trainer_state(one, step)
    names += ["scheduler.pt", "rng_state_0.pth", "rng_state_1.pth", "trainer_state.json"]
    return below(one.name, names)


def write_accelerate(folder, seed, step):
    one = folder / f"checkpoint_{step // 10}"
    safetensors(one / "model.safetensors", seed)
    save(one / "optimizer.bin", {"state": tensor(seed)})
    save(one / "scheduler.bin", {"last_epoch": step})
    for rank in range(2):
        # the ending is Accelerate's; torch.save writes them
        save(one / f"random_states_{rank}.pkl", {"step": step, "torch": torch.get_rng_state()})
    return below(
        one.name,
        [
            "model.safetensors",
            "optimizer.bin",
            "scheduler.bin",
            "random_states_0.pkl",
            "random_states_1.pkl",
        ],
    )


def lightning_state(seed, step):
    return {
        "epoch": 0,
        "global_step": step,
        "pytorch-lightning_version": "2.5",
        "state_dict": {"w": tensor(seed)},
        "optimizer_states": [{"state": tensor(seed + 1)}],
        "loops": {},
        "callbacks": {},
        "lr_schedulers": [],
    }


def write_lightning(folder, seed, step):
    name = f"epoch=0-step={step}.ckpt"
    save(folder / name, lightning_state(seed, step))
    link(folder / "last.ckpt", name)
    return [name]


def write_lightning_sharded(folder, seed, step):
    one = folder / f"epoch=0-step={step}.ckpt"
    names = shards(one, seed)
    meta = lightning_state(seed, step)
    del meta["state_dict"], meta["optimizer_states"]
    save(one / "meta.pt", meta)
    return below(one.name, [*names, "meta.pt"])


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def mcore(folder, seed):
    """torch_dist as Megatron's core writes it, with the common part in a file of its own."""
    save(folder / "common.pt", {"iteration": seed, "args": argparse.Namespace(seed=seed)})
    names = shards(folder, seed)
    config = {
        "sharded_backend": "torch_dist",
        "sharded_backend_version": 1,
        "common_backend": "torch",
        "common_backend_version": 1,
    }
    text(folder / "metadata.json", json.dumps(config))
    return ["common.pt", *names, "metadata.json"]


def tracker(folder, step):
    text(folder / "latest_checkpointed_iteration.txt", str(step))


def write_megatron(folder, seed, step):
    names = mcore(folder / f"iter_{step:07d}", seed)
    tracker(folder, step)
    return below(f"iter_{step:07d}", names)


def write_megatron_dcp(folder, seed, step):
    """--ckpt-format torch_dcp."""
    names = shards(folder / f"iter_{step:07d}", seed)
    tracker(folder, step)
    return below(f"iter_{step:07d}", names)


def write_megatron_legacy(folder, seed, step):
    one = f"iter_{step:07d}"
    sizes = argparse.Namespace(
        tensor_model_parallel_size=2,
        pipeline_model_parallel_size=2,
        expert_model_parallel_size=1,
        use_distributed_optimizer=True,
        no_save_optim=None,
    )
    names = []
    for tp in range(2):
        for pp in range(2):
            rank = f"mp_rank_{tp:02d}_{pp:03d}"
            names.append(f"{rank}/distrib_optim.pt")
            save(folder / one / names[-1], {0: {"param": tensor(seed + tp + pp)}})
            names.append(f"{rank}/model_optim_rng.pt")
            state = {
                "args": sizes,
                "checkpoint_version": 3.0,
                "iteration": step,
                "model": {"w": tensor(seed)},
                "rng_state": [],
            }
            save(folder / one / names[-1], state)
    tracker(folder, step)
    return below(one, names)


def write_nemo(folder, seed, step):
    one = folder / f"test--val_loss=0.5-step={step}-consumed_samples={step * 8}.0"
    names = below("weights", mcore(one / "weights", seed))
    text(one / "context" / "io.json", json.dumps({"objects": {}, "root": None}))
    text(one / "context" / "model.yaml", "model: test\n")
    return below(one.name, [*names, "context/io.json", "context/model.yaml"])


def write_nemo_file(folder, seed, step):
    name = f"test--val_loss=0.5-step={step}-consumed_samples={step * 8}.0.ckpt"
    save(folder / name, lightning_state(seed, step))
    return [name]


def write_mmengine(folder, seed, step):
    name = f"iter_{step}.pth"
    state = {
        "meta": {"iter": step, "epoch": 0},
        "state_dict": {"w": tensor(seed)},
        "optimizer": {"state": tensor(seed + 1)},
        "message_hub": {},
    }
    save(folder / name, state)
    text(folder / "last_checkpoint", str((folder / name).absolute()))
    return [name]


def write_composer(folder, seed, step):
    name = f"ep0-ba{step}-rank0.pt"
    save(folder / name, {"state": {"model": {"w": tensor(seed)}}, "rng": []})
    link(folder / "latest-rank0.pt", name)
    return [name]


def write_composer_sharded(folder, seed, step):
    one = f"ep0-ba{step}"
    names = shards(folder / one, seed)
    link(folder / "latest-rank0.pt", one)
    return below(one, names)


def write_files(folder, seed, step):
    save(folder / f"step_{step}.pt", {"step": step, "model": {"w": tensor(seed)}})
    return [f"step_{step}.pt"]


def write_files_old(folder, seed, step):
    state = {"step": step, "model": {"w": tensor(seed)}}
    save(folder / f"step_{step}.pt", state, _use_new_zipfile_serialization=False)
    return [f"step_{step}.pt"]


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    case("dcp", "dcp", write_dcp, "step_10", "step_20")
    case("torchtitan", "torchtitan", write_torchtitan, "step-10", "step-20")
    tags = ("global_step10", "global_step20", "latest")
    case("deepspeed ZeRO 1", "deepspeed", write_deepspeed, *tags)
    case("deepspeed ZeRO 3", "deepspeed", write_deepspeed_3, *tags)
    case("deepspeed without ZeRO", "deepspeed", write_deepspeed_0, "after-10", "after-20", "latest")
    case("hf", "hf", write_hf, "checkpoint-10", "checkpoint-20")
    case("hf with FSDP", "hf", write_hf_fsdp, "checkpoint-10", "checkpoint-20")
    case("accelerate", "accelerate", write_accelerate, "checkpoint_1", "checkpoint_2")
    steps = ("epoch=0-step=10.ckpt", "epoch=0-step=20.ckpt")
    case("lightning file", "lightning", write_lightning, *steps, "last.ckpt")
    case("lightning folder", "lightning", write_lightning_sharded, *steps)
    iterations = ("iter_0000010", "iter_0000020", "latest_checkpointed_iteration.txt")
    case("megatron", "megatron", write_megatron, *iterations)
    case("megatron torch_dcp", "megatron", write_megatron_dcp, *iterations)
    case("megatron-legacy", "megatron-legacy", write_megatron_legacy, *iterations, world=4)
    names = [f"test--val_loss=0.5-step={n}-consumed_samples={n * 8}.0" for n in (OLDER, NEWER)]
    marker = f"{names[1]}-unfinished"
    case("nemo folder", "nemo", write_nemo, *names, marker=marker)
    names = [f"{name}.ckpt" for name in names]
    case("nemo file", "nemo", write_nemo_file, *names, marker=marker)
    case("mmengine", "mmengine", write_mmengine, "iter_10.pth", "iter_20.pth", "last_checkpoint")
    saves = ("ep0-ba10-rank0.pt", "ep0-ba20-rank0.pt", "latest-rank0.pt")
    case("composer file", "composer", write_composer, *saves)
    saves = ("ep0-ba10", "ep0-ba20", "latest-rank0.pt")
    case("composer folder", "composer", write_composer_sharded, *saves)
    files = ("step_10.pt", "step_20.pt")
    case("files", "files", write_files, *files, pattern="step_{step}.pt")
    case("files of old", "files", write_files_old, *files, pattern="step_{step}.pt")
    Path("cases.json").write_text(json.dumps(CASES, indent=1))


if __name__ == "__main__":
    main()
