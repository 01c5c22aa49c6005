"""The AI Core: what recompression saves, what it costs in quality and in time. `plan` says what is measured, `loop`
runs one stream, `figures` is the arithmetic, `rows` makes the table; `__main__` (`make bench-aicore`) runs it all.
"""
