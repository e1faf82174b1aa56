"""A training run: its flags, config, data, optimizer step, validation and folder; `command`: what all commands have."""
