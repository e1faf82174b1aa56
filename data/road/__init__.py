"""Parts of the renderer of `data/synthetic_dataset.py`: a road's geometry, its surface, what stands beside and on it."""
