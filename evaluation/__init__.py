"""Scores of lanes, by the rules of lane benchmarks, and of instances; as a command: `python -m evaluation --help`."""


def __getattr__(name):
    # `python -m evaluation` imports this first, and has to be there for Ctrl-C before what takes seconds
    if name == "tusimple_score":
        from lanes.tusimple import tusimple_score

        return tusimple_score
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
