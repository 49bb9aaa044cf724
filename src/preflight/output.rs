//! Which finding the ranks' last words point to, for a hint after a failure.
//!
//! Plain texts are looked for, in the spelling of the programs that print them. Where several fit,
//! the most telling one counts: a rule higher in the table is a cause, lower ones are symptoms.

use super::catalogue::code;
use super::finding::Code;

/// Texts that have to stand in one line.
struct Rule {
    /// All of them, in one line.
    line: &'static [&'static str],
    /// Besides, one text anywhere in the output.
    anywhere: Option<&'static str>,
    code: Code,
}

const fn rule(line: &'static [&'static str], code: Code) -> Rule {
    Rule { line, anywhere: None, code }
}

const fn with(line: &'static [&'static str], anywhere: &'static str, code: Code) -> Rule {
    Rule { line, anywhere: Some(anywhere), code }
}

/// The table, causes first.
static RULES: &[Rule] = &[
    rule(&["fallen off the bus"], code::GPU_OFF_BUS),
    rule(&["NVRM: Xid", ": 79,"], code::GPU_OFF_BUS),
    rule(&["GPU is lost"], code::GPU_OFF_BUS),
    rule(
        &["nvmlInit", "Driver/library version mismatch"],
        code::DRIVER_LIB_MISMATCH_NEWER_USERSPACE,
    ),
    rule(
        &["Failed to initialize NVML: Driver/library version mismatch"],
        code::DRIVER_LIB_MISMATCH_NEWER_USERSPACE,
    ),
    // An out-of-memory error hides behind it.
    rule(&["NVML_SUCCESS ==", "INTERNAL ASSERT"], code::DRIVER_LIB_MISMATCH_NEWER_USERSPACE),
    rule(&["Failed to initialize NVML: Unknown Error"], code::CONTAINER_CGROUP_LOST),
    rule(&["Error 802"], code::FABRIC_MANAGER_NOT_READY),
    rule(&["system not yet initialized"], code::FABRIC_MANAGER_NOT_READY),
    rule(&["Error 803"], code::DRIVER_LIB_MISMATCH_OLDER_USERSPACE),
    rule(
        &["unsupported display driver / cuda driver combination"],
        code::DRIVER_LIB_MISMATCH_OLDER_USERSPACE,
    ),
    rule(&["Error 804"], code::CUDA_FWD_COMPAT_UNSUPPORTED_GPU),
    rule(&["forward compatibility was attempted"], code::CUDA_FWD_COMPAT_UNSUPPORTED_GPU),
    rule(&["libcuda.so", "file too short"], code::LIB_ZERO_BYTE),
    rule(&["libnvidia-", "file too short"], code::LIB_ZERO_BYTE),
    rule(&["libcuda.so.1: cannot open shared object file"], code::LIBCUDA_NOT_FOUND),
    rule(&["libnvidia-ml.so.1: cannot open shared object file"], code::NVML_LIB_NOT_FOUND),
    rule(&["Key was rejected by service"], code::SECUREBOOT_UNSIGNED_MODULE),
    with(&["integer modulo by zero"], "mmengine", code::MMENGINE_MODULO_ZERO),
    with(&["integer division or modulo by zero"], "mmengine", code::MMENGINE_MODULO_ZERO),
    with(&["Found no NVIDIA driver"], "mmengine", code::MMENGINE_NO_ACCEL),
    with(&["Torch not compiled with CUDA enabled"], "mmengine", code::MMENGINE_NO_ACCEL),
    rule(&["driver on your system is too old"], code::CUDA_TOOLKIT_TOO_NEW),
    rule(
        &["CUDA driver version is insufficient for CUDA runtime version"],
        code::CUDA_TOOLKIT_TOO_NEW,
    ),
    rule(&["Found no NVIDIA driver"], code::DRIVER_NOT_LOADED),
    rule(&["communicate with the NVIDIA driver"], code::DRIVER_NOT_LOADED),
    rule(&["only supported with GPUs, no GPUs found"], code::CUDA_TORCH_ON_NO_NVIDIA_HOST),
    rule(&["Torch not compiled with CUDA enabled"], code::TORCH_CPU_BUILD_ON_GPU_HOST),
    rule(&["unsupported toolchain"], code::PTX_JIT_RISK),
    rule(&["busy or unavailable"], code::GPU_BUSY),
    rule(&["no socket interface found"], code::SOCKET_IFNAME_NO_MATCH),
    rule(&["Unable to find address for:"], code::SOCKET_IFNAME_NO_MATCH),
    rule(&["insufficient shared memory"], code::SHM_TOO_SMALL),
    rule(&["/dev/shm", "No space left on device"], code::SHM_TOO_SMALL),
    rule(&["ibv_reg_mr", "Cannot allocate memory"], code::MEMLOCK_LOW_WITH_IB),
];

/// What words about NVIDIA's GPUs mean on a machine that has none for the ranks: its driver is not
/// missing, nor does a `PyTorch` for the CPU leave anything unused.
fn without_cuda(code: Code) -> Option<Code> {
    if code == code::DRIVER_NOT_LOADED {
        return Some(code::CUDA_TORCH_ON_NO_NVIDIA_HOST);
    }
    (code != code::TORCH_CPU_BUILD_ON_GPU_HOST).then_some(code)
}

/// The finding that some output points to; `has_cuda` is whether the ranks' devices are those that
/// `PyTorch` calls `cuda`, as far as that is known.
pub fn from_output<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    has_cuda: Option<bool>,
) -> Option<Code> {
    let lines: Vec<&str> = lines.into_iter().collect();
    let stands = |text: &str| lines.iter().any(|line| line.contains(text));
    let fits = |rule: &&Rule| {
        lines.iter().any(|line| rule.line.iter().all(|text| line.contains(text)))
            && rule.anywhere.is_none_or(stands)
    };
    let mut codes = RULES.iter().filter(fits).map(|rule| rule.code.clone());
    match has_cuda {
        Some(false) => codes.find_map(without_cuda),
        Some(true) | None => codes.next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_point_to_a_finding() {
        let table: &[(&[&str], Option<&str>)] = &[
            (
                &["h:1:2 [0] NCCL WARN nvmlInit_v2() failed: Driver/library version mismatch"],
                Some("NVL001"),
            ),
            (
                &["Last error:", "nvmlInit_v2() failed: Driver/library version mismatch"],
                Some("NVL001"),
            ),
            (
                &[
                    "Failed to initialize NVML: Driver/library version mismatch",
                    "NVML library version: 580.95",
                ],
                Some("NVL001"),
            ),
            (
                &[
                    "RuntimeError: NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:1098",
                ],
                Some("NVL001"),
            ),
            (&["Failed to initialize NVML: Unknown Error"], Some("NVL034")),
            (
                &[
                    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
                ],
                Some("NVL050"),
            ),
            (
                &["Error 803: system has unsupported display driver / cuda driver combination"],
                Some("NVL002"),
            ),
            (
                &["Error 804: forward compatibility was attempted on non supported HW"],
                Some("NVL003"),
            ),
            (
                &["RuntimeError: Found no NVIDIA driver on your system. Please check"],
                Some("NVL020"),
            ),
            (
                &[
                    r#"File "/usr/lib/python3.8/dist-packages/mmengine/dist/utils.py", line 130, in _init_dist_pytorch"#,
                    "RuntimeError: Found no NVIDIA driver on your system.",
                ],
                Some("NVL090"),
            ),
            (
                &["  mmengine/dist/utils.py", "ZeroDivisionError: integer modulo by zero"],
                Some("NVL092"),
            ),
            (&["ZeroDivisionError: integer modulo by zero"], None),
            (
                &["NVRM: Xid (PCI:0000:dc:00): 79, pid=1, GPU has fallen off the bus."],
                Some("NVL041"),
            ),
            (&["NVRM: Xid (PCI:0000:dc:00): 31, pid=1"], None),
            // The cause wins over its symptom, whatever comes first.
            (
                &["Failed to initialize NVML: Unknown Error", "GPU 3 has fallen off the bus"],
                Some("NVL041"),
            ),
            (&["ImportError: libcuda.so.1: file too short"], Some("NVL030")),
            (&["ImportError: libcuda.so.1: cannot open shared object file"], Some("NVL032")),
            (
                &[
                    "RuntimeError: DataLoader worker (pid 9) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory. insufficient shared memory (shm).",
                ],
                Some("NVL073"),
            ),
            (
                &["ValueError: ProcessGroupNCCL is only supported with GPUs, no GPUs found!"],
                Some("NVL063"),
            ),
            (&["Bootstrap : no socket interface found"], Some("NVL072")),
            (&["loss 0.3", "ValueError: bad shape"], None),
            (&[], None),
        ];
        for (lines, code) in table {
            let found = from_output(lines.iter().copied(), None);
            assert_eq!(found.as_ref().map(|code| &*code.0), *code, "{lines:?}");
        }
    }
    #[test]
    fn without_such_devices_the_same_words_mean_something_else() {
        let no_driver = "RuntimeError: Found no NVIDIA driver on your system. Please check";
        let for_cpu = "AssertionError: Torch not compiled with CUDA enabled";
        let table: &[(&str, Option<bool>, Option<&str>)] = &[
            (no_driver, None, Some("NVL020")),
            (no_driver, Some(true), Some("NVL020")),
            (no_driver, Some(false), Some("NVL063")),
            (for_cpu, Some(true), Some("NVL062")),
            (for_cpu, Some(false), None),
            ("insufficient shared memory (shm)", Some(false), Some("NVL073")),
        ];
        for (line, has_cuda, code) in table {
            let found = from_output([*line], *has_cuda);
            assert_eq!(found.as_ref().map(|code| &*code.0), *code, "{line} {has_cuda:?}");
        }
        // What no longer fits leaves room for what does.
        let both = [for_cpu, "insufficient shared memory (shm)"];
        assert_eq!(from_output(both, Some(false)).expect("one fits").0, "NVL073");
    }
}
