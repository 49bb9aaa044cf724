//! The only readers of the machine; all work below a root path, so that tests hand in a folder.

pub mod process;
