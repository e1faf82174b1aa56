"""Annotations of other tools, one module per family.

From a `sources.Source` readers make a list of functions without arguments, each of which gives a
`sources.AnnotatedImage` or raises UserError. They raise UserError themselves where the whole source can't be used.
"""
