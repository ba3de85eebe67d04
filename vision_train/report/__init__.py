"""Turns the files of a run into pictures and one HTML page. Knows no task."""

from vision_train.report.run_report import write_report

__all__ = ["write_report"]
