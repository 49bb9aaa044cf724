//! From exit statuses, error files and kernel evidence to a cause in words.

pub mod exit;
