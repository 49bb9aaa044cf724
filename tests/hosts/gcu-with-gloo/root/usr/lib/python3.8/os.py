"""OS routines."""
