"""A run's network as a file for other programs, which is run once before it is left."""
