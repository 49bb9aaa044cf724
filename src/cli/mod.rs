//! The command line: structs of clap without effects.
