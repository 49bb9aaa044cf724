//! Whether scripts that insist on CUDA are helped, by what, and how that gets into the ranks. Pure.
//!
//! - D1: `auto` is never more than an offer, and is one only where preflight found something that
//!   it would help against.
//! - D2: a piece that cannot matter here (a package that is known not to be there) is left out.
//! - D3: what is not known of the ranks' environment is treated as old: `sitecustomize` works with
//!   every release, an entry point with `PyTorch` 2.5 and later.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use serde::{Deserialize, Serialize};

use crate::env_vars;
use crate::preflight::catalogue::code;
use crate::preflight::version::Version;
use crate::preflight::{BackendChoice, Judgement};
use crate::settings::spec::{CompatChoice, LaunchSpec, Target};

/// What becomes of scripts that insist on CUDA.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Compat {
    /// Nothing, and nothing is said.
    #[default]
    Off,
    /// Nothing; it is said what would help.
    Offered(Offer),
    /// They are helped.
    On(Layer),
}

/// What would help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// For `--compat`.
    pub name: &'static str,
    /// Why, as one clause.
    pub why: String,
}

/// Whose devices take the place of CUDA's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The CPU.
    Cpu,
    /// Enflame's, through `torch_gcu`; the CPU where that is not installed.
    Gcu,
}

impl Mode {
    /// As `--compat` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gcu => "gcu",
        }
    }
}

/// How it gets into the ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// An entry point of the group `torch.backends`.
    EntryPoint,
    /// A module `sitecustomize` that waits for `torch`.
    Sitecustomize,
}

/// One thing that is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The piece, as the ranks know it: `set_device`, `process_group`, `ddp`, `transfer`, `mmengine`.
    pub piece: String,
    /// What is changed, as one clause.
    pub what: String,
    /// Why, as one clause.
    pub why: String,
}

/// What is done in the ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Whose devices take the place of CUDA's.
    pub mode: Mode,
    /// The backend in the place of one that cannot work; `None` is found out in the ranks.
    pub backend: Option<String>,
    /// Whether the user asked for that backend.
    pub is_backend_asked: bool,
    /// In the order in which they are made.
    pub changes: Vec<Change>,
    /// How it gets into the ranks.
    pub way: Way,
    /// Why in that way.
    pub way_reason: String,
    /// What is lost, for the user, a line each.
    pub warnings: Vec<String>,
    /// What the ranks have as `PYTHONPATH` behind the layer's folder.
    pub python_path: Option<OsString>,
}

/// What preflight saw of the ranks' Python environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Python {
    /// The version of `PyTorch`, where it was found.
    pub torch: Option<String>,
    /// Whether that is built for CUDA.
    pub is_cuda_build: bool,
    /// The version of `MMEngine`, where it was found.
    pub mmengine: Option<String>,
    /// The version of `torch_gcu`, where it was found.
    pub torch_gcu: Option<String>,
}

impl Python {
    fn torch_is_at_least(&self, least: &[u32]) -> Option<bool> {
        Some(Version::parse(self.torch.as_deref()?)?.is_at_least(least))
    }
}

/// The name that would help a script that insists on CUDA; `None` where that is on already, shall not
/// be spoken of, or CUDA is here.
pub fn offered(choice: CompatChoice, vendor: &str, is_cuda: bool) -> Option<&'static str> {
    (choice == CompatChoice::Auto && !is_cuda).then(|| name_for(vendor))
}

/// The name that fits a machine.
pub fn name_for(vendor: &str) -> &'static str {
    if vendor == "gcu" { "gcu" } else { "cpu" }
}

/// What `auto` says in the plan: only where something was found that it helps against.
fn offer(judgement: &Judgement) -> Option<Offer> {
    let helps = [code::MMENGINE_NO_ACCEL, code::MMENGINE_MODULO_ZERO];
    let found = judgement.findings.iter().find(|finding| helps.contains(&finding.code))?;
    Some(Offer { name: judgement.compat?, why: found.summary.clone() })
}

/// Decides it. `caller` are the variables of the caller; `judgement` is preflight's, where it looked.
pub fn decide(
    spec: &LaunchSpec,
    caller: &BTreeMap<String, OsString>,
    judgement: Option<&Judgement>,
) -> Compat {
    let mode = match spec.compat {
        CompatChoice::Off => return Compat::Off,
        _ if !spec.has_compat_layer => return Compat::Off,
        CompatChoice::Auto => {
            return judgement.and_then(offer).map_or(Compat::Off, Compat::Offered);
        }
        CompatChoice::Cpu => Mode::Cpu,
        CompatChoice::Gcu => Mode::Gcu,
    };
    let cx = Cx { spec, caller, judgement, mode };
    let (way, way_reason) = cx.way();
    Compat::On(Layer {
        mode,
        backend: cx.backend(),
        is_backend_asked: spec.preflight.backend.is_some(),
        changes: cx.changes(),
        way,
        way_reason,
        warnings: cx.warnings(way),
        python_path: cx.variable(env_vars::PYTHONPATH).filter(|path| !path.is_empty()),
    })
}

/// What everything here follows from.
struct Cx<'a> {
    spec: &'a LaunchSpec,
    caller: &'a BTreeMap<String, OsString>,
    judgement: Option<&'a Judgement>,
    mode: Mode,
}

impl Cx<'_> {
    /// A variable as the ranks would have it without the layer.
    fn variable(&self, name: &str) -> Option<OsString> {
        match self.spec.env.get(name).filter(|profile| !profile.is_kept) {
            Some(profile) => profile.value.as_ref().map(OsString::from),
            None => self.caller.get(name).cloned(),
        }
    }

    fn python(&self) -> Option<&Python> {
        self.judgement.map(|judgement| &judgement.python)
    }

    fn backend(&self) -> Option<String> {
        let asked = self.spec.preflight.backend.as_ref();
        asked.or(self.judgement.map(|judgement| &judgement.backend.name)).cloned()
    }

    /// Whether collectives can carry tensors of a GCU, as far as is known.
    fn has_eccl(&self) -> Option<bool> {
        Some(self.backend()?.split([',', ':']).any(|name| name == "eccl"))
    }

    fn wants_transfer(&self) -> bool {
        let value = self.variable(env_vars::COMPAT_TRANSFER);
        value.is_some_and(|value| !matches!(value.to_str(), Some("" | "0" | "no" | "off")))
    }

    fn way(&self) -> (Way, String) {
        if let Target::Program(program) = &self.spec.target
            && !is_python(program.as_os_str())
        {
            let reason = "which PyTorch the program starts is not known";
            return (Way::Sitecustomize, reason.to_owned());
        }
        let known = self.python().and_then(|python| python.torch.as_deref());
        let is_new = self.python().and_then(|python| python.torch_is_at_least(&[2, 5]));
        let autoload = self.variable(env_vars::TORCH_AUTOLOAD).filter(|value| value != "1");
        let because = |why: &str| (Way::Sitecustomize, why.to_owned());
        match (known, is_new, autoload) {
            (Some(version), Some(true), None) => {
                (Way::EntryPoint, format!("PyTorch {version} loads entry points by itself"))
            }
            (Some(version), Some(true), Some(value)) => because(&format!(
                "{}={} keeps PyTorch {version} from its entry points",
                env_vars::TORCH_AUTOLOAD,
                value.display()
            )),
            (Some(version), Some(false), _) => {
                because(&format!("PyTorch {version} looks for no entry points"))
            }
            _ => because("PyTorch was not found, and this works with every release"),
        }
    }

    fn changes(&self) -> Vec<Change> {
        let mut list = Vec::new();
        let mut add = |piece: &str, what: Cow<'_, str>, why: &str| {
            list.push(Change {
                piece: piece.to_owned(),
                what: what.into_owned(),
                why: why.to_owned(),
            });
        };
        let plugin = self.python().map(|python| python.torch_gcu.is_some());
        if self.mode == Mode::Gcu && self.wants_transfer() {
            add(
                "transfer",
                "torch_gcu's transfer_to_gcu is imported, which makes torch.cuda mean GCUs".into(),
                "NVLAUNCH_COMPAT_TRANSFER asks for it",
            );
        }
        let what = match (self.mode, plugin) {
            (Mode::Cpu, _) | (Mode::Gcu, Some(false)) => "torch.cuda.set_device does nothing",
            (Mode::Gcu, Some(true)) => "torch.cuda.set_device calls torch.gcu.set_device",
            (Mode::Gcu, None) => {
                "torch.cuda.set_device calls torch.gcu.set_device, or does nothing without torch_gcu"
            }
        };
        let no_driver = "without CUDA it ends in \"Found no NVIDIA driver\"";
        add("set_device", what.into(), no_driver);
        let groups = "init_process_group and new_group with a backend that cannot work here";
        add(
            "process_group",
            match self.backend() {
                Some(backend) => format!("{groups} take {backend}").into(),
                None => format!("{groups} take the one that can").into(),
            },
            "nccl needs a CUDA device",
        );
        let drops = "DistributedDataParallel drops device_ids and output_device";
        let is_new = self.python().and_then(|python| python.torch_is_at_least(&[2, 0]));
        add(
            "ddp",
            match is_new {
                Some(true) => format!("{drops} for modules on the CPU").into(),
                Some(false) => format!("{drops} where no parameter is on cuda").into(),
                None => format!(
                    "{drops} for modules on the CPU, before PyTorch 2.0 for all that are not on cuda"
                )
                .into(),
            },
            "they are for modules on a GPU; PyTorch 2.0 and later takes them for other devices too",
        );
        if let Some((what, why)) = self.mmengine() {
            add("mmengine", what.into(), why);
        }
        list
    }

    /// What is wrong with the `MMEngine` that is here, or may be.
    fn mmengine(&self) -> Option<(&'static str, &'static str)> {
        let Some(python) = self.python() else {
            return Some((
                "MMEngine's init_dist chooses the device by the local rank, in releases that do not",
                "up to 0.7.2 it divides by the number of GPUs",
            ));
        };
        let version = Version::parse(python.mmengine.as_deref()?)?;
        if !version.is_at_least(&[0, 7, 3]) {
            return Some((
                "MMEngine's init_dist does not divide by the number of GPUs",
                "it is 0 here",
            ));
        }
        let takes_rank = version.is_at_least(&[0, 10, 3]) && !version.is_at_least(&[0, 10, 8]);
        let is_musa = self.judgement.is_some_and(|judgement| judgement.vendor == "musa");
        (takes_rank && is_musa).then_some((
            "MMEngine's init_dist chooses the MUSA device by the local rank",
            "it takes the global rank, which is too high on every node but the first",
        ))
    }

    fn warnings(&self, way: Way) -> Vec<String> {
        let mut list = Vec::new();
        let name = self.mode.name();
        if let Some(option) = self.isolating_option(way) {
            list.push(format!(
                "compat {name} does not reach the ranks: Python's option {option} leaves out what \
                 it needs"
            ));
        }
        let python = self.python();
        let plugin = python.map(|python| python.torch_gcu.is_some());
        match (self.mode, plugin, self.has_eccl()) {
            (Mode::Gcu, Some(false), _) => list.push(
                "compat gcu: torch_gcu is not installed: THE GCUS ARE NOT USED, tensors stay on the \
                 CPU and gloo carries them"
                    .to_owned(),
            ),
            (Mode::Gcu, Some(true), Some(false)) => list.push(
                "compat gcu: the backend is not eccl: gloo carries tensors of the CPU only, so \
                 THE GCUS CANNOT EXCHANGE GRADIENTS"
                    .to_owned(),
            ),
            (Mode::Gcu, Some(true), Some(true))
                if python.is_some_and(|python| python.mmengine.is_some())
                    && self.backend().as_deref() == Some("eccl")
                    && !self.wants_transfer() =>
            {
                list.push(
                    "compat gcu: MMEngine keeps its tensors on the CPU, which eccl does not carry; \
                     where it fails, --backend gloo trains on the CPU"
                        .to_owned(),
                );
            }
            _ => {}
        }
        if self.wants_transfer() {
            match (self.mode, python.filter(|python| python.torch.is_some())) {
                (Mode::Cpu, _) => list.push(format!(
                    "{} has no effect: it is for compat gcu",
                    env_vars::COMPAT_TRANSFER
                )),
                (Mode::Gcu, Some(python)) if !python.is_cuda_build => list.push(format!(
                    "{}: transfer_to_gcu needs a PyTorch that is built for CUDA, and this one is not",
                    env_vars::COMPAT_TRANSFER
                )),
                _ => {}
            }
        }
        if self.mode == Mode::Cpu && self.judgement.is_some_and(Judgement::is_for_cuda) {
            list.push(
                "compat cpu changes nothing while PyTorch finds a CUDA device; CUDA_VISIBLE_DEVICES= \
                 hides them"
                    .to_owned(),
            );
        }
        list
    }

    /// An option that takes `PYTHONPATH` away from an interpreter which was named by `--no-python`.
    fn isolating_option(&self, way: Way) -> Option<String> {
        let Target::Program(program) = &self.spec.target else { return None };
        if !is_python(program.as_os_str()) {
            return None;
        }
        let words = self.spec.args.iter().map(|word| word.to_string_lossy());
        // Behind the script, `-c` and `-m` everything is the script's own.
        let options = words.take_while(|word| {
            word.starts_with('-')
                && word.len() > 1
                && !word.starts_with("-c")
                && !word.starts_with("-m")
        });
        let isolates = |letter: char| {
            matches!(letter, 'I' | 'E') || letter == 'S' && way == Way::Sitecustomize
        };
        let mut found = options.filter(|word| !word.starts_with("--"));
        found.find_map(|word| {
            // `-W` and `-X` take what follows as a value.
            let letters = word.chars().skip(1).take_while(|letter| !matches!(letter, 'W' | 'X'));
            letters.into_iter().find(|letter| isolates(*letter)).map(|letter| format!("-{letter}"))
        })
    }
}

fn is_python(program: &OsStr) -> bool {
    let name = std::path::Path::new(program).file_name().unwrap_or_default();
    name.to_string_lossy().starts_with("python")
}

/// The backend of a job with the layer, in the place of what would be chosen without it.
pub fn backend(
    choice: CompatChoice,
    vendor: &str,
    is_cuda: bool,
    python: &Python,
    chosen: BackendChoice,
) -> BackendChoice {
    match choice {
        CompatChoice::Cpu if !is_cuda && chosen.name != "gloo" => BackendChoice {
            name: "gloo".to_owned(),
            reason: format!("compat is cpu: the ranks' tensors are not on {vendor}"),
            ..chosen
        },
        CompatChoice::Gcu
            if chosen.name == "eccl" && python.torch_is_at_least(&[2, 0]) == Some(true) =>
        {
            BackendChoice {
                name: "cpu:gloo,gcu:eccl".to_owned(),
                reason: format!(
                    "{}; compat is gcu, so tensors that stay on the CPU are carried too",
                    chosen.reason
                ),
                ..chosen
            }
        }
        _ => chosen,
    }
}

#[cfg(test)]
mod tests;
