//! The variables of the ranks that decide something, and the files that NCCL reads as variables.
//!
//! A variable that looks like a secret is left out: facts are written to files that people share.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::facts::{ConfFile, Note};
use super::{files, vendors};
use crate::diagnose::secrets;
use crate::env_vars;
use crate::plan::caller_env_to_remove;
use crate::settings::env::Env;

/// What the names of variables start with that `PyTorch`, its backends or a vendor's runtime read.
const STARTS: [&str; 38] = [
    "NCCL_",
    "TORCH_",
    "TORCHELASTIC_",
    "PYTORCH_",
    "CUDA_",
    "__CUDA_",
    "NVIDIA_",
    "GLOO_",
    "TP_",
    "UCX_",
    "UCC_",
    "OMP_",
    "MKL_",
    "KMP_",
    "GOMP_",
    "HIP_",
    "ROCR_",
    "HSA_",
    "RCCL_",
    "AMD_",
    "TOPS_",
    "ENFLAME_",
    "ECCL_",
    "GCU_",
    "HCCL_",
    "ASCEND_",
    "NPU_",
    "ZE_",
    "SYCL_",
    "ONEAPI_",
    "CCL_",
    "HABANA_",
    "PT_HPU_",
    "MLU_",
    "CNCL_",
    "MUSA_",
    "MCCL_",
    "FI_",
];

/// Those that start otherwise.
const NAMES: [&str; 20] = [
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "NSIGHT_CUDA_DEBUGGER",
    "COMPUTE_PROFILE",
    "OPENCL_PROFILE",
    "ENABLE_NCCL_HEALTH_CHECK",
    "MACA_VISIBLE_DEVICES",
    "XPU_VISIBLE_DEVICES",
    "MASTER_ADDR",
    "MASTER_PORT",
    "PYTHONPATH",
    "PYTHONNOUSERSITE",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "KUBERNETES_SERVICE_HOST",
    "SLURM_JOB_ID",
    "USE_LIBUV",
    "GPU_DEVICE_ORDINAL",
    "CUBLAS_WORKSPACE_CONFIG",
];

/// Bytes of a value that are kept: paths are long, programs are no values.
const MAX_VALUE: usize = 16 << 10;
/// Bytes of a file of variables.
const MAX_FILE: u64 = 64 << 10;

/// What matters of an environment.
pub fn read(env: &Env) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (name, value) in &env.0 {
        let Some(name) = name.to_str() else { continue };
        if matters(name) && !secrets::is_secret(name) {
            variables.insert(name.to_owned(), shown(&value.to_string_lossy()));
        }
    }
    variables
}

fn matters(name: &str) -> bool {
    STARTS.iter().any(|start| name.starts_with(start))
        || NAMES.contains(&name)
        || vendors::ALL.iter().any(|vendor| {
            vendor.container == Some(name)
                || vendor.visible.iter().any(|variable| variable.name == name)
        })
}

/// The caller's variables that the ranks' programs read, that a run around this one may have left,
/// or that are `wanted`, as they are: secrets too.
pub fn of_caller(env: &Env, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, OsString> {
    // They say where the job runs, not how.
    let is_place = |name: &str| matches!(name, env_vars::SLURM_JOB_ID | "KUBERNETES_SERVICE_HOST");
    let is_of_ranks = |name: &str| {
        wanted(name)
            || name.starts_with("PYTHON")
            || name == env_vars::COMPAT_TRANSFER
            || caller_env_to_remove().contains(&name)
            || matters(name) && !is_place(name)
    };
    let named = env.0.iter().filter_map(|(name, value)| Some((name.to_str()?, value)));
    named
        .filter(|(name, _)| is_of_ranks(name))
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect()
}

fn shown(value: &str) -> String {
    let value = secrets::scrub(value);
    if value.len() <= MAX_VALUE {
        return value;
    }
    let mut end = MAX_VALUE;
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value[..end].to_owned()
}

/// The files whose lines NCCL takes for variables that are not set: `NCCL_CONF_FILE`, or else
/// `~/.nccl.conf`; then `/etc/nccl.conf` (`src/misc/param.cc`).
pub fn nccl_conf(root: &Path, env: &Env, notes: &mut Vec<Note>) -> Vec<ConfFile> {
    let own = match env.get_nonempty(env_vars::NCCL_CONF_FILE) {
        Some(path) => Some(PathBuf::from(path)),
        None => env.get_nonempty(env_vars::HOME).map(|home| Path::new(home).join(".nccl.conf")),
    };
    let paths = own.into_iter().chain([PathBuf::from("/etc/nccl.conf")]);
    let mut found = Vec::new();
    for path in paths.filter(|path| path.is_absolute()) {
        if let Some(text) = files::text(root, &path, MAX_FILE, notes) {
            let variables = conf(&text);
            found.push(ConfFile { path: path.display().to_string(), variables });
        }
    }
    found
}

/// `NAME=VALUE` lines, the first of a name wins, as NCCL sets only what is not set. A line that is
/// a comment for people makes a variable for NCCL that nobody reads.
fn conf(text: &str) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if let Some((name, value)) = line.split_once('=')
            && !name.trim().is_empty()
            && !secrets::is_secret(name)
        {
            variables.entry(name.trim().to_owned()).or_insert_with(|| shown(value.trim()));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::fuzz;

    #[test]
    fn what_matters_and_is_nobodys_secret() {
        let env: Env = [
            ("NCCL_NVML_DISABLE", "1"),
            ("CUDA_VISIBLE_DEVICES", ""),
            ("NVIDIA_VISIBLE_DEVICES", "void"),
            ("LD_LIBRARY_PATH", "/a:/b"),
            ("TORCH_API_KEY", "abc"),
            ("NVIDIA_ACCESS_TOKEN", "abc"),
            ("TORCH_MIRROR", "https://me:pw@host/x"),
            ("TOPS_VISIBLE_DEVICES", "0,1"),
            ("NSIGHT_CUDA_DEBUGGER", "1"),
            ("MY_NCCL_DEBUG", "x"),
            ("PWD", "/"),
        ]
        .into_iter()
        .collect();
        let found = read(&env);
        let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            found,
            [
                ("CUDA_VISIBLE_DEVICES", ""),
                ("LD_LIBRARY_PATH", "/a:/b"),
                ("NCCL_NVML_DISABLE", "1"),
                ("NSIGHT_CUDA_DEBUGGER", "1"),
                ("NVIDIA_VISIBLE_DEVICES", "void"),
                ("TOPS_VISIBLE_DEVICES", "0,1"),
                ("TORCH_MIRROR", "https://me:***@host/x"),
            ]
        );
        let long: Env = [("NCCL_X", "é".repeat(MAX_VALUE))].into_iter().collect();
        assert!(read(&long)["NCCL_X"].len() <= MAX_VALUE);
    }

    #[test]
    fn lines_of_nccl_conf() {
        let text = "# NCCL_DEBUG=INFO\nNCCL_SOCKET_IFNAME=eth0\n NCCL_IB_HCA = =mlx5\n\nx\n=1\n\
                    NCCL_SOCKET_IFNAME=eth1\nNCCL_EMPTY=";
        let conf = conf(text);
        let found: Vec<_> = conf.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected =
            [("NCCL_EMPTY", ""), ("NCCL_IB_HCA", "=mlx5"), ("NCCL_SOCKET_IFNAME", "eth0")];
        assert_eq!(found, expected);
    }

    #[test]
    fn files_that_nobody_wrote() {
        let text = "# NCCL\nNCCL_SOCKET_IFNAME=eth0\nNCCL_IB_HCA = =mlx5\nX=http://a:b@c/d\n";
        fuzz::run_text("nccl.conf", &[text], |text| {
            conf(text);
        });
    }

    proptest! {
        #[test]
        fn no_file_is_too_strange(text in "(?s)[ -~\n\u{e9}]{0,200}") {
            conf(&text);
        }
    }
}
