"""Expressions that each mean one box of an image."""
