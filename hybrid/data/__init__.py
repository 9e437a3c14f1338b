"""What the network is fed: batches of prepared splits, and their augmentation on the device."""
