"""What is drawn of images with boxes."""
