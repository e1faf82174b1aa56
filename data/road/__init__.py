"""Parts of the renderer of `data/synthetic_dataset.py`: geometry and surface of a road, what is beside and on it."""
