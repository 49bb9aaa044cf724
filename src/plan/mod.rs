//! What will be done: program, environment, addresses, placement of each rank.
