//! The question to CUDA, asked by the ranks' interpreter: it can call a library without `unsafe`
//! of ours, and is the program that will load it.

/// What the ranks load.
pub const LIBRARY: &str = "libcuda.so.1";

/// What the child does before it says anything.
pub const FIRST_STAGE: &str = "start Python";

/// Words for the interpreter; the process id of nvlaunch and the library follow.
///
/// `-I -S`: none of the user's modules is needed, and none shall run here.
pub const WORDS: [&str; 4] = ["-I", "-S", "-c", SCRIPT];

const SCRIPT: &str = include_str!("cuda.py");
