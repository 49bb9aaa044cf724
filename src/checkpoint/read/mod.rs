//! What a file's own bytes prove of it. Nothing here executes anything, and everything is bounded.

pub mod pickle;
mod pickle_machine;
mod pickle_text;
mod pickle_value;
pub mod safetensors;
#[cfg(test)]
pub(crate) mod samples;
pub mod text;
pub mod torch_file;
mod torch_legacy;
mod zip;
