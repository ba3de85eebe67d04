"""Reading any weights file without executing code, and matching it to a model key by key."""

from vision_train.checkpoints.folders import WeightsFiles, weights_files
from vision_train.checkpoints.match import load_weights, match_weights
from vision_train.checkpoints.provenance import Provenance, provenance_of
from vision_train.checkpoints.read import Weights, read_weights
from vision_train.checkpoints.report import LoadReport
from vision_train.checkpoints.settle import settle
from vision_train.checkpoints.start import fresh_names, load_start
from vision_train.checkpoints.written import names_of, write_weights

__all__ = [
    "LoadReport",
    "Provenance",
    "Weights",
    "WeightsFiles",
    "fresh_names",
    "load_start",
    "load_weights",
    "match_weights",
    "names_of",
    "provenance_of",
    "read_weights",
    "settle",
    "weights_files",
    "write_weights",
]
