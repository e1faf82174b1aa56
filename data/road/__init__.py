"""Parts of the renderer of `data/synthetic_dataset.py`: a road, what is beside and on it, the light, the camera."""
