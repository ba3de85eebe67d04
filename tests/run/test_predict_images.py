"""What predictions are called, and what is said about files that are not there."""

import pytest
from PIL import Image

from vision_train.errors import UserError
from vision_train.run.predict_images import _below_common_parent, _render, list_images
from vision_train.run.predictions import Prediction


def test_a_missing_file_of_a_table_is_told_with_its_line(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    table = tmp_path / "table.csv"
    table.write_text("path\na.png\nb.png\n")
    with pytest.raises(UserError, match=r"table\.csv line 3: no file .*b\.png\. Paths are relative to"):
        list_images([table])


def test_titles_tell_folders_apart():
    assert _below_common_parent(["in/red/1.png", "in/blue/../blue/1.png"]) == ["red/1.png", "blue/1.png"]
    assert _below_common_parent(["in/red/1.png"]) == ["1.png"]
    assert _below_common_parent([]) == []


def test_a_picture_is_named_after_its_folder_and_file(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "x.png")
    _render(tmp_path, 7, "red circle/img 14 (1).png", Prediction(str(tmp_path / "x.png"), [("red", 1.0)]))
    assert (tmp_path / "00007-red circle-img 14 (1).png").is_file()
