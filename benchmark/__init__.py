"""Each stage timed beside its reference in one run on this machine: `python -m benchmark --help`."""
