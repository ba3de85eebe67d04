"""Detection: classes and boxes of the objects in images."""
