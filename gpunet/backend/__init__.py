"""Floor 1: arrays and devices. Nothing in here knows what a Tensor is."""
