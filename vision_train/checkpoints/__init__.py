"""Reading any weights file without executing code, and matching it to a model key by key."""

from vision_train.checkpoints.match import load_weights, match_weights
from vision_train.checkpoints.read import Weights, read_weights
from vision_train.checkpoints.report import LoadReport

__all__ = ["LoadReport", "Weights", "load_weights", "match_weights", "read_weights"]
