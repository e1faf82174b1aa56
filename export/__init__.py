"""A network for other programs: batch norm folding, file formats, calibration; `python -m export --help`."""
