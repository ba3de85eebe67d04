"""Preparing bags: embedding the tiles of large images, and writing bags so that they are read fast."""
