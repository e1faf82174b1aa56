"""Annotations of other tools and data sets, one module per family, for `data/instance_dataset_processing.py`.

Each module's readers take (source, images, line_width) and give a list of one `shapes.Entry`, or the UserError that
tells why there is none, per image.
"""
