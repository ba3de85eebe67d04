"""The engine of vision-train: everything that knows recipes, files, Lightning or the command line.

Importing this package has no side effects and loads nothing heavy.
"""

__version__ = "0.1.0"
