"""Pictures of what networks make of images."""
