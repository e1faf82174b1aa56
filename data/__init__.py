"""Data commands, run as `python data/NAME.py`, and the reader of label files that the rest of the project imports."""
