"""What `benchmarks/bench.py` measures: one module a section, each with a function `measure`."""
