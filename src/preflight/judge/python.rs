//! `PyTorch`'s CUDA against the driver, and the NCCL that is loaded.

use super::context::{Build, Cx};
use super::draft::Draft;
use crate::host::facts::nvidia::Nvidia;
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::version::Version;

/// The oldest driver of each CUDA release, newest first (CUDA's table of minor version
/// compatibility; before 11 every release had its own).
const OLDEST_DRIVER: [(&[u32], &[u32], &str); 6] = [
    (&[13], &[580], "580"),
    (&[12], &[525, 60, 13], "525.60.13"),
    (&[11], &[450, 80, 2], "450.80.02"),
    (&[10, 2], &[440, 33], "440.33"),
    (&[10, 1], &[418, 39], "418.39"),
    (&[10], &[410, 48], "410.48"),
];

/// The CUDA release that a driver branch brings, where the minor matters.
const CUDA_OF_BRANCH: [(u32, u32, u32); 13] = [
    (595, 13, 2),
    (590, 13, 1),
    (580, 13, 0),
    (575, 12, 9),
    (570, 12, 8),
    (565, 12, 7),
    (560, 12, 6),
    (555, 12, 5),
    (550, 12, 4),
    (545, 12, 3),
    (535, 12, 2),
    (530, 12, 1),
    (525, 12, 0),
];

/// Packages that compile CUDA code of their own.
const COMPILERS: [&str; 6] =
    ["deepspeed", "apex", "flash-attn", "flash_attn", "xformers", "transformer-engine"];

/// What does not fit; nothing is said of a driver that has a mismatch to be cured first.
pub fn judge(cx: &Cx<'_>, nvidia: &Nvidia, out: &mut Vec<Finding>) {
    if cx.build() != Build::Cuda {
        return;
    }
    nccl_override(cx, out);
    let Some(torch) = &cx.facts.python.torch else { return };
    let Some(cuda) = torch.cuda.as_deref().and_then(Version::parse) else { return };
    let Some((kernel_text, kernel)) = cx.kernel_module() else { return };
    // A libcuda of a cuda-compat package brings its own CUDA release.
    let libcuda = nvidia.libraries.cuda.as_ref().and_then(|l| l.version.as_deref());
    let driver = match libcuda.and_then(Version::parse) {
        Some(library) if library.compare(&kernel).is_gt() => library,
        _ => kernel,
    };
    let text = torch.cuda.as_deref().unwrap_or_default();
    let begin = |code, summary: String| {
        Draft::new(code, summary)
            .evidence(&torch.source, format!("{} built for CUDA {text}", torch.version))
            .evidence(
                nvidia.loaded.as_ref().map_or("", |loaded| loaded.source.as_str()),
                format!("the kernel runs {kernel_text}"),
            )
            .evidence_if(nvidia.libraries.cuda.as_ref().and_then(|l| {
                Some((l.path.clone(), format!("libcuda is {}", l.version.as_deref()?)))
            }))
    };
    let needed = OLDEST_DRIVER.iter().find(|(release, _, _)| cuda.is_at_least(release));
    if let Some((_, _, name)) = needed.filter(|(_, oldest, _)| !driver.is_at_least(oldest)) {
        out.push(
            begin(
                code::CUDA_TOOLKIT_TOO_NEW,
                format!(
                    "PyTorch's CUDA {text} needs driver {name} or newer; this one is {kernel_text}"
                ),
            )
            .severity(cx.for_gpu(Severity::Error))
            .root_remedy(format!("upgrade the driver to {name} or newer"), Vec::new())
            .remedy(
                "or install PyTorch for an older CUDA",
                &[&format!(
                    "pip install torch --index-url https://download.pytorch.org/whl/{}",
                    if driver.is_at_least(&[525, 60, 13]) { "cu128" } else { "cu118" }
                )],
            )
            .done(),
        );
        return;
    }
    let brings = CUDA_OF_BRANCH.iter().find(|(branch, _, _)| driver.major() >= *branch);
    let compiler = COMPILERS.iter().find(|name| cx.facts.python.packages.contains_key(**name));
    if let (Some((_, major, minor)), Some(compiler)) = (brings, compiler)
        && cuda.major() == *major
        && cuda.minor() > *minor
    {
        out.push(
            begin(
                code::PTX_JIT_RISK,
                format!(
                    "kernels that {compiler} compiles for CUDA {text} as PTX may be too new for \
                     the driver (CUDA {major}.{minor})"
                ),
            )
            .severity(Severity::Note)
            .evidence(*compiler, "compiles kernels of its own")
            .remedy(
                "compile for the GPU's own architecture, without +PTX in TORCH_CUDA_ARCH_LIST",
                &[],
            )
            .done(),
        );
    }
}

/// Another NCCL than `PyTorch`'s own.
fn nccl_override(cx: &Cx<'_>, out: &mut Vec<Finding>) {
    let Some(nccl) = cx.facts.python.nccl.as_ref().filter(|nccl| nccl.is_override) else { return };
    let Some(wheel) = nccl.wheel.as_ref().filter(|wheel| **wheel != nccl.path) else { return };
    let by = ["LD_PRELOAD", "LD_LIBRARY_PATH"].into_iter().find(|name| cx.var_set(name).is_some());
    let version = nccl.version.as_deref().unwrap_or("of unknown version");
    let mut wheels = cx.facts.python.packages.iter();
    let own = wheels.find(|(name, _)| name.starts_with("nvidia-nccl"));
    let own = own.map_or("this".to_owned(), |(_, version)| format!("NCCL {version}"));
    let mut draft = Draft::new(
        code::NCCL_LIB_OVERRIDE,
        format!("the ranks load NCCL {version} from {}, not PyTorch's own", nccl.path),
    )
    .severity(cx.for_gpu(Severity::Warning))
    .evidence(&nccl.path, format!("NCCL {version}"))
    .evidence(wheel, format!("{own} is the one that PyTorch was built with"));
    if let Some(name) = by {
        draft = draft.evidence(name, cx.var(name).unwrap_or_default());
    }
    out.push(
        draft
            .remedy(
                format!("take it out of {}, unless it is wanted", by.unwrap_or("LD_LIBRARY_PATH")),
                &[],
            )
            .done(),
    );
}
