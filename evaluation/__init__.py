"""Scores of lanes, by the rules of lane benchmarks, and of instances; as a command: `python -m evaluation --help`."""

from evaluation.tusimple import tusimple_score

__all__ = ["tusimple_score"]
