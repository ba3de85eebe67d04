"""Data on disk as batches. Each kind of data has a package of its own; what all kinds share lies beside them."""
