//! From exit statuses, error files and kernel evidence to a cause in words.

pub mod class;
pub mod error_file;
pub mod exit;
pub mod missing;
pub mod oom;
pub mod secrets;
