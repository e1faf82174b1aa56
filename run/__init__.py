"""A training run: flags, config, data, optimizer step, validation, folder; `command`: what all commands share."""
