"""The renderer of `data/synthetic_dataset.py`. Colors are RGB in 0..1, lengths m; `rng` is a numpy Generator."""
