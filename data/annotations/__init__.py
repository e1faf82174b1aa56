"""Annotations of other tools, one module per family: from a `sources.Source` a list of `sources.AnnotatedImage`s.

In place of an image that can't be used there is its UserError; one that is raised is of the whole source.
"""
