"""Recipes over seeds: which is better on these data, and is it luck."""
