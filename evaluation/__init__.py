"""Scores of lanes, by the rules of benchmarks, instances and classes: `python -m evaluation --help`."""


def tusimple_score(predictions, ground_truth):
    """As `lanes.tusimple.tusimple_score`, imported late: `python -m evaluation` isn't there for Ctrl-C before."""
    from lanes import tusimple

    return tusimple.tusimple_score(predictions, ground_truth)
