"""Live video sent through a bridge and measured from outside, on real packets and real pictures.

Used by `make demo`, the end-to-end tests and the benchmarks, so that all three mean the same thing by a saved
percent, a broken frame or a latency. Nothing in here ships.
"""
