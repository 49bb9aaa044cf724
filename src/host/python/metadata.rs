//! What Python's own files say: `torch/version.py`, `pyvenv.cfg`, names of `*.dist-info` folders.
//!
//! Nothing is executed; what a line means is told by its form.

use std::collections::BTreeMap;

use crate::host::facts::Torch;

/// The assignments of `torch/version.py` (`PyTorch` 1.10 to 2.15): `cuda = '12.1'`, later
/// `cuda: Optional[str] = '12.8'`; `None` is no version. `None` where nothing says a version.
pub fn torch_version(text: &str, source: &str) -> Option<Torch> {
    let mut values = BTreeMap::new();
    for line in text.lines() {
        // Assignments of the module itself, not of a function in it.
        if line.starts_with(char::is_whitespace) {
            continue;
        }
        let Some((target, value)) = line.split_once('=') else { continue };
        let name = target.split(':').next().unwrap_or(target).trim();
        if let Some(value) = literal(value) {
            values.insert(name, value);
        }
    }
    let mut take = |name: &str| values.remove(name);
    Some(Torch {
        version: take("__version__")?,
        cuda: take("cuda"),
        hip: take("hip"),
        xpu: take("xpu"),
        source: source.to_owned(),
    })
}

/// A string; anything else is not understood, or is `None`. A source build writes the version as
/// `TorchVersion('…')` in some releases.
fn literal(text: &str) -> Option<String> {
    let text = text.trim();
    let start = text.find(['\'', '"'])?;
    // A call is fine, an expression of several strings is not.
    if !text[..start].chars().all(|c| c.is_ascii_alphanumeric() || "_(.".contains(c)) {
        return None;
    }
    let quote = text[start..].chars().next()?;
    let inner = &text[start + 1..];
    let value = &inner[..inner.find(quote)?];
    (!value.is_empty()).then(|| value.to_owned())
}

/// What `pyvenv.cfg` says of a virtual environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VenvConfig {
    /// The folder of the interpreter that it was made from.
    pub home: Option<String>,
    /// Whether that interpreter's packages are seen too.
    pub includes_system: bool,
    /// `3.11`
    pub version: Option<String>,
}

/// Reads `pyvenv.cfg`: `key = value` lines, keys in any case (the module `site`).
pub fn venv_config(text: &str) -> VenvConfig {
    let mut config = VenvConfig::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "home" => config.home = Some(value.to_owned()),
            "include-system-site-packages" => {
                config.includes_system = value.eq_ignore_ascii_case("true");
            }
            // `version_info` is what virtualenv and uv write.
            "version" | "version_info" => {
                config.version = major_minor(value).or(config.version);
            }
            _ => {}
        }
    }
    config
}

/// `3.11` of `3.11.7` or `python3.11`.
pub fn major_minor(text: &str) -> Option<String> {
    let digits = text.trim().trim_start_matches("python");
    let mut parts = digits.split('.');
    let mut part = || {
        let part = parts.next()?;
        (!part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit()))
            .then_some(part)
    };
    let (major, minor) = (part()?, part()?);
    Some(format!("{major}.{minor}"))
}

/// Name and version of a distribution by its folder `torch_gcu-1.10.0+2.5.136.dist-info`, or
/// `mmengine-0.7.3-py3.8.egg-info`; the name is normalised (PEP 503).
pub fn distribution(folder: &str) -> Option<(String, String)> {
    let (stem, is_egg) = match folder.strip_suffix(".dist-info") {
        Some(stem) => (stem, false),
        None => (folder.strip_suffix(".egg-info").or_else(|| folder.strip_suffix(".egg"))?, true),
    };
    let (name, version) = stem.split_once('-')?;
    let version = match version.split_once("-py") {
        Some((version, _)) if is_egg => version,
        _ => version,
    };
    let is_whole = !name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit());
    is_whole.then(|| (normalised(name), version.to_owned()))
}

/// Lower case, and one `-` for every run of `-`, `_` and `.`.
fn normalised(name: &str) -> String {
    let lower = name.to_lowercase();
    let parts = lower.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-")
}

/// Distributions whose version may decide something, besides those of the vendor table.
const INTERESTING: [&str; 36] = [
    "accelerate",
    "apex",
    "bitsandbytes",
    "colossalai",
    "deepspeed",
    "fairscale",
    "flash-attn",
    "intel-extension-for-pytorch",
    "lightning",
    "megatron-core",
    "mmcv",
    "mmcv-full",
    "mmcv-lite",
    "mmdet",
    "mmengine",
    "mmengine-lite",
    "mmpretrain",
    "mmsegmentation",
    "mpi4py",
    "numpy",
    "nvidia-ml-py",
    "nvidia-ml-py3",
    "oneccl",
    "oneccl-bind-pt",
    "horovod",
    "pynvml",
    "pytorch-lightning",
    "ray",
    "torch",
    "torchaudio",
    "torchrun",
    "torchvision",
    "transformer-engine",
    "transformers",
    "triton",
    "xformers",
];

/// What the names of interesting distributions start with.
const INTERESTING_STARTS: [&str; 5] =
    ["nvidia-nccl", "nvidia-cuda-runtime", "nvidia-nvshmem", "pytorch-triton", "rccl"];

/// Whether a distribution (normalised name) is worth telling.
pub fn is_interesting(name: &str) -> bool {
    INTERESTING.contains(&name)
        || INTERESTING_STARTS.iter().any(|start| name.starts_with(start))
        || crate::host::vendors::ALL.iter().any(|vendor| vendor.torch_packages.contains(&name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::fuzz;

    #[test]
    fn version_files_of_many_releases() {
        let some = |text: &str| Some(text.to_owned());
        for (text, version, cuda, hip, xpu) in [
            (
                "__version__ = '1.10.0'\ndebug = False\ncuda = None\ngit_version = '36449e'\nhip = None\n",
                "1.10.0",
                None,
                None,
                None,
            ),
            (
                "__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']\n\
                 __version__ = '2.1.2+cu121'\ndebug = False\ncuda = '12.1'\ngit_version = 'a8e7c98'\nhip = None\n",
                "2.1.2+cu121",
                some("12.1"),
                None,
                None,
            ),
            (
                "from typing import Optional\n\n__all__ = ['__version__', 'debug', 'cuda']\n\
                 __version__ = '2.8.0+cu128'\ndebug = False\ncuda: Optional[str] = '12.8'\n\
                 git_version = 'ba56102'\nhip: Optional[str] = None\nxpu: Optional[str] = None\n",
                "2.8.0+cu128",
                some("12.8"),
                None,
                None,
            ),
            (
                "__version__ = '2.4.1+rocm6.1'\ncuda: Optional[str] = None\n\
                 hip: Optional[str] = '6.1.40091-a8dbc0c19'\n",
                "2.4.1+rocm6.1",
                None,
                some("6.1.40091-a8dbc0c19"),
                None,
            ),
            (
                "__version__ = '2.9.0+xpu'\ncuda: Optional[str] = None\nxpu: Optional[str] = '20250302'\n",
                "2.9.0+xpu",
                None,
                None,
                some("20250302"),
            ),
            (
                "from .torch_version import TorchVersion\n__version__ = TorchVersion(\"2.3.0a0+git1\")\n\
                 cuda = \"12.4\"  # nightly\ndef f():\n    cuda = 'no'\n",
                "2.3.0a0+git1",
                some("12.4"),
                None,
                None,
            ),
        ] {
            let torch = torch_version(text, "v").expect("it tells a version");
            assert_eq!(torch.version, version);
            assert_eq!((torch.cuda, torch.hip, torch.xpu), (cuda, hip, xpu), "{version}");
        }
        for text in
            ["", "version = '1'", "__version__ = None", "__version__ = a + 'b'", "__version__ = '"]
        {
            assert_eq!(torch_version(text, "v"), None, "{text}");
        }
    }

    #[test]
    fn virtual_environments() {
        let plain = "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.7\n";
        let virtualenv = "home=/opt/py/bin\nimplementation = CPython\nversion_info = 3.8.10.final.0\n\
                          virtualenv = 20.0\nInclude-System-Site-Packages = True\n";
        let config = venv_config(plain);
        assert_eq!(config.home.as_deref(), Some("/usr/bin"));
        assert_eq!((config.includes_system, config.version.as_deref()), (false, Some("3.11")));
        let config = venv_config(virtualenv);
        assert_eq!((config.includes_system, config.version.as_deref()), (true, Some("3.8")));
        assert_eq!(venv_config("home\n= x\n\0"), VenvConfig::default());
        for (text, version) in [
            ("3.11.7", Some("3.11")),
            ("python3.9", Some("3.9")),
            ("3", None),
            ("python", None),
            ("3.x", None),
            ("3.12", Some("3.12")),
            ("3.1234", None),
        ] {
            assert_eq!(major_minor(text).as_deref(), version, "{text}");
        }
    }

    #[test]
    fn names_of_distributions() {
        for (folder, expected) in [
            ("torch_gcu-1.10.0+2.5.136.dist-info", Some(("torch-gcu", "1.10.0+2.5.136"))),
            ("nvidia_nccl_cu12-2.27.3.dist-info", Some(("nvidia-nccl-cu12", "2.27.3"))),
            ("nvidia.ml_py-12.1.dist-info", Some(("nvidia-ml-py", "12.1"))),
            ("mmengine-0.7.3-py3.8.egg-info", Some(("mmengine", "0.7.3"))),
            ("apex-0.1-py3.8-linux-x86_64.egg", Some(("apex", "0.1"))),
            ("torch-2.5.1-py3.11.egg-info", Some(("torch", "2.5.1"))),
            ("torch", None),
            ("torch-.dist-info", None),
            ("-1.dist-info", None),
            ("torch.egg-info", None),
        ] {
            let found = distribution(folder);
            let found = found.as_ref().map(|(name, version)| (name.as_str(), version.as_str()));
            assert_eq!(found, expected, "{folder}");
        }
        assert!(is_interesting("nvidia-nccl-cu13") && is_interesting("torch-gcu"));
        assert!(is_interesting("mmengine") && !is_interesting("requests"));
    }

    #[test]
    fn files_that_nobody_wrote() {
        let version = "from typing import Optional\n__version__ = '2.8.0+cu128'\n\
                       cuda: Optional[str] = \"12.8\"\nhip = None\nx = TorchVersion('1')\n";
        fuzz::run_text("version.py", &[version], |text| {
            torch_version(text, "v");
        });
        let config = "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.7\n\
                      version_info = 3.8.10.final.0\n";
        fuzz::run_text("pyvenv.cfg", &[config], |text| {
            venv_config(text);
        });
        let names = "torch_gcu-1.10.0+2.5.dist-info mmengine-0.7.3-py3.8.egg-info python3.11";
        fuzz::run_text("dist-info", &[names], |text| {
            distribution(text);
            major_minor(text);
        });
    }

    proptest! {
        #[test]
        fn no_file_is_too_strange(text in "(?s)[ -~\n\u{e9}]{0,200}") {
            torch_version(&text, "v");
            torch_version(&format!("__version__ = {text}"), "v");
            venv_config(&text);
            distribution(&text);
            distribution(&format!("{text}.dist-info"));
            major_minor(&text);
        }

        #[test]
        fn a_version_that_was_written_is_read_back(
            version in "[0-9a-z.+]{1,20}",
            cuda in proptest::option::of("[0-9.]{1,6}"),
            is_annotated: bool,
        ) {
            let note = if is_annotated { ": Optional[str]" } else { "" };
            let value = cuda.as_ref().map_or("None".to_owned(), |cuda| format!("'{cuda}'"));
            let text = format!("__version__ = '{version}'\ncuda{note} = {value}\n");
            let torch = torch_version(&text, "v");
            prop_assert_eq!(torch.map(|torch| (torch.version, torch.cuda)), Some((version, cuda)));
        }
    }
}
