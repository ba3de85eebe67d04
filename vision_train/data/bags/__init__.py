"""Bags of instances: features of slide patches, or of anything else that comes in sets with one label."""
