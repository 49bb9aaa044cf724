"""What the fake NVML answers (its form: the header of examples/fake_nvml.rs)."""

BRANDS = {"GeForce": 5, "RTX A6000": 13, "V100": 2, "T4": 2}
CUDA = {580: 13000, 575: 12090, 570: 12080, 550: 12040, 545: 12030, 535: 12020, 460: 11020}


def works(machine, count, model, per_gpu=None, **everywhere):
    """Script `count` GPUs in good order; `per_gpu` changes some, `everywhere` all of them."""
    version = machine.driver_version
    major = int(version.split(".")[0])
    cuda = CUDA[major]
    brand = next((brand for part, brand in BRANDS.items() if part in model), 14)
    devices = []
    for index, address in enumerate(machine.addresses[:count]):
        device = {
            "pci": "0000" + address.upper(),
            "uuid": f"GPU-5f1a2b3c-0000-4000-8000-{index:012x}",
            "name": model,
            "brand": brand,
            **everywhere,
            **(per_gpu or {}).get(index, {}),
        }
        devices.append(device)
    return machine.nvml(
        {
            "driver_version": version,
            "nvml_version": f"{cuda // 1000}.{version}",
            "cuda_version": cuda,
            "devices": devices,
        }
    )


def mismatch(machine):
    """Script what NVML says when the kernel's module is of another version."""
    return machine.nvml({"init": 18})


def hangs(machine, call="nvmlInit_v2"):
    """Script a call that never returns."""
    return machine.nvml({"hang": [call, "nvmlInitWithFlags"]})


def crashes(machine, call="nvmlInit_v2"):
    """Script a call that ends the process by a signal."""
    return machine.nvml({"segv": [call, "nvmlInitWithFlags"]})
