"""A csv of expressions: `path,text,x,y,w,h` and, if the table says them, `split` and `category`."""

from __future__ import annotations

from pathlib import Path

from vision_train.data.findings import Findings
from vision_train.data.phrases.annotations import Listed, ListedFile, Part, part_called
from vision_train.data.tables import read_table
from vision_train.errors import UserError
from vision_train.files import printable

COLUMNS = ("path", "text", "x", "y", "w", "h")


def read_csv(path: Path, findings: Findings) -> ListedFile:
    """Read a table; `x` and `y` are the upper left corner of a box, all four numbers are pixels.

    Args:
        path: The csv.
        findings: Takes what is wrong with single lines.

    Raises:
        UserError: It is no csv, lacks a column or a path, or names an unknown split.
    """
    table = read_table(path)
    table.rows_with(*COLUMNS, filled=False)
    listed = ListedFile(path, "left, top, width, height")
    for line, row in table.rows_with("path"):
        place = f"{path.name} line {line}"
        try:
            x, y, width, height = (float(row[column]) for column in "xywh")
        except ValueError:
            findings.mend("boxes that are not four numbers", place)
            continue
        corners, part = (x, y, x + width, y + height), _part(row.get("split", ""), place)
        category = row.get("category", "")
        listed.expressions.append(Listed(row["path"], row["text"], corners, part, place, category=category))
    return listed


def _part(cell: str, place: str) -> Part:
    part = part_called(cell) if cell else Part(None)
    if part is None:
        raise UserError(f"{place}: split is `{printable(cell)}`; write train, val, test, testA or testB")
    return part
