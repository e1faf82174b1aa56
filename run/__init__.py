"""A training run: one optimizer step (`train_step`), the run folder (`folder`), validation during it (`validation`)."""
