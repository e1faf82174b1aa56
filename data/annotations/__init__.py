"""Annotations of other tools and data sets, one module per family, for `data/instance_dataset_processing.py`.

Each module's readers take a `sources.Source` and give a list: for each image a `sources.AnnotatedImage`, or the
UserError that tells why there is none. They raise UserError where the whole source can't be used.
"""
