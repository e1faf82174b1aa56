"""Annotations of other tools: a reader makes of a `Source` functions, each of which gives an `AnnotatedImage`."""
