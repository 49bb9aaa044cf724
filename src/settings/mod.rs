//! What the user wants: layers of options, joined into one [`spec::LaunchSpec`].

pub mod spec;
