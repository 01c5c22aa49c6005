"""What drives the pure rules of `rooms` with clocks, tasks and the adapters that it is given."""
