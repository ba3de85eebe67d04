"""Grounding: the one box in an image that an expression means."""
