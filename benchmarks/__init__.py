"""The promised numbers, one module each: `rows(say)` measures and returns them. `make bench` runs them all."""
