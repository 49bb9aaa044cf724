//! What a file's own bytes prove of it. Nothing here executes anything, and everything is bounded.
