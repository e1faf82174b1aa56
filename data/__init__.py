"""Data commands, run as `python data/NAME.py`, and what is known of data folders."""
