"""Pictures of predicted images: what the files and the titles are called, and what is drawn."""

from pathlib import Path

import numpy as np
from PIL import Image

from vision_train.previews import Bars
from vision_train.report.images import open_renderer
from vision_train.report.prediction_pictures import below_common_parent

RED = np.full((4, 6, 3), (255, 0, 0), dtype=np.uint8)


def test_titles_tell_folders_apart():
    assert below_common_parent(["in/red/1.png", "in/blue/../blue/1.png"]) == ["red/1.png", "blue/1.png"]
    assert below_common_parent(["in/red/1.png"]) == ["1.png"]
    assert below_common_parent([]) == []


def test_a_picture_is_named_after_its_folder_and_file(tmp_path: Path):
    names = ["in/red circle/img 14 (1).png", "in/blue/1.png"]
    with open_renderer(tmp_path / "new", originals=dict.fromkeys(names, lambda: RED)) as renderer:
        for name in names:
            renderer.add(name, Bars([("red", 1.0)]))
    assert renderer.remarks() == []
    found = sorted(file.name for file in (tmp_path / "new").glob("[!.]*"))
    assert found == ["00000-red circle-img 14 (1).png", "00001-blue-1.png"]


def test_a_task_may_draw_on_the_original_pixels(tmp_path: Path):
    with open_renderer(tmp_path, originals={"a.png": lambda: RED}) as renderer:
        renderer.add("a.png", lambda pixels: 255 - pixels[:2])
    assert np.asarray(Image.open(tmp_path / "00000-a.png")).tolist() == (255 - RED[:2]).tolist()
