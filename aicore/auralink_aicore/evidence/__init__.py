"""What recompression does to pictures in operation: a report per room, and samples that another process scores.

Everything here compares ours with the *sender's* picture: the pristine one is not known in operation.
"""
