"""Training: configuration, data feed, optimiser, and the loop that reads from top to bottom."""
