//! `MMEngine`'s launcher, which knows CUDA, and a few others by name.
//!
//! That a package is installed does not say that the script uses its launcher: these are warnings,
//! never refusals. A profile can make them errors.

use super::context::Cx;
use super::draft::Draft;
use crate::compat;
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Finding, Mitigation, Severity};
use crate::preflight::vendor::Choice;
use crate::preflight::version::Version;
use crate::settings::spec::CompatChoice;

/// Devices that `_init_dist_pytorch` has a branch for, and since when.
fn has_branch(device: &str, version: &Version) -> bool {
    match device {
        "cuda" | "mlu" => true,
        "npu" => version.is_at_least(&[0, 3]),
        "musa" => version.is_at_least(&[0, 10, 3]),
        _ => false,
    }
}

/// What `MMEngine` makes of the chosen vendor.
pub fn judge(cx: &Cx<'_>, choice: &Choice, out: &mut Vec<Finding>) {
    let packages = &cx.facts.python.packages;
    let Some(text) = packages.get("mmengine").or_else(|| packages.get("mmengine-lite")) else {
        return;
    };
    let Some(version) = Version::parse(text) else { return };
    let device = choice.vendor.map_or("cpu", |vendor| vendor.torch_device);
    let begin = |code, summary: String| {
        Draft::new(code, summary)
            .severity(Severity::Warning)
            .evidence("mmengine", format!("{text} is installed"))
            .evidence("accelerators", choice.vendor.map_or("none", |vendor| vendor.title))
    };
    if device == "musa" && has_branch(device, &version) {
        if cx.intent.nnodes > 1 && !version.is_at_least(&[0, 10, 8]) {
            out.push(
                begin(
                    code::MMENGINE_MUSA_RANK_BUG,
                    format!(
                        "MMEngine {text} takes the global rank for the device: every node but the \
                         first fails"
                    ),
                )
                .evidence("--nnodes", cx.intent.nnodes.to_string())
                .mitigation(layer(cx))
                .remedy(
                    "in the script, after init: \
                     torch.musa.set_device(int(os.environ['LOCAL_RANK']))",
                    &[],
                )
                .done(),
            );
        }
        return;
    }
    if has_branch(device, &version) {
        return;
    }
    let by_hand = format!(
        "in the script, in place of init_dist: \
         torch.distributed.init_process_group(os.environ.get('NVLAUNCH_BACKEND', '{}'))",
        choice.vendor.and_then(|vendor| super::vendors::backend_of(cx, vendor)).unwrap_or("gloo")
    );
    let name = compat::name_for(choice.name());
    let start = format!("nvlaunch --compat {name} …");
    // Up to 0.7.2 the division comes first.
    let finding = if version.is_at_least(&[0, 7, 3]) {
        begin(
            code::MMENGINE_NO_ACCEL,
            format!(
                "MMEngine {text} calls torch.cuda.set_device in init_dist, which fails on {device}"
            ),
        )
    } else {
        begin(
            code::MMENGINE_MODULO_ZERO,
            format!(
                "MMEngine {text} divides by the number of CUDA devices in init_dist, which is 0"
            ),
        )
        .remedy("upgrade it", &["pip install --upgrade mmengine"])
    };
    let severity = if layer(cx).is_some() { Severity::Note } else { Severity::Warning };
    let finding = finding
        .severity(severity)
        .mitigation(layer(cx))
        .remedy("start the script as it is", &[&start])
        .remedy(by_hand, &[]);
    out.push(finding.done());
}

/// What the compatibility layer does about it, where it is on.
fn layer(cx: &Cx<'_>) -> Option<Mitigation> {
    let name = match cx.intent.compat {
        CompatChoice::Auto | CompatChoice::Off => return None,
        CompatChoice::Cpu => "cpu",
        CompatChoice::Gcu => "gcu",
    };
    Some(Mitigation {
        what: format!("compat {name} changes that in the ranks"),
        variables: Vec::new(),
        cures: true,
    })
}
