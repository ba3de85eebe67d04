"""Detection through the command line: from annotations to boxes in COCO's format and on pictures."""

import csv
import json
from itertools import islice
from pathlib import Path

import pytest
from faster_coco_eval import COCO, COCOeval_faster
from PIL import Image

from vision_train.data.toy.scenes import write_coco
from vision_train.data.toy.shapes import shapes

SMALL = [
    *("data.source=boxes", "data.root=shapes", "data.batch_size=2", "data.workers=0", "trainer.max_epochs=1"),
    *("model.args.encoder_layers=1", "model.args.decoder_layers=2", "optim.warmup_steps=0"),
]


@pytest.fixture
def scenes(place) -> Path:
    """Six training images and two of each other split, drawn, in the folder `shapes`."""
    wanted = {"train": 6, "val": 2, "test": 2}
    drawn = shapes()
    write_coco([each for split, count in wanted.items() for each in islice(_of(drawn, split), count)], Path("shapes"))
    return Path("shapes")


def _of(drawn, split):
    return (scene for scene in drawn if scene.split == split)


def test_from_annotations_to_boxes(cli, refused, scenes):
    fitted = cli("fit", "relation_detr/shapes", *SMALL, "--run-dir", "run")
    assert fitted.exit_code == 0, fitted.output
    tested = [Path("shapes/images/test_0000.png"), Path("shapes/images/test_0001.png")]
    predicted = cli("predict", "run", *tested, "--out", "boxes.json", "--render", "out")
    assert predicted.exit_code == 0, predicted.output
    assert "boxes are shown from" in predicted.output
    assert "180 results of 2 images in boxes.json" in predicted.output
    truth = COCO("shapes/test.json")
    evaluation = COCOeval_faster(truth, truth.loadRes("boxes.json"), "bbox", print_function=lambda *_: None)
    evaluation.run()
    measured = json.loads(cli("evaluate", "run", "--json").stdout)
    assert evaluation.stats[0] == pytest.approx(measured["test/ap"], abs=1e-6)
    assert {file.name for file in Path("out").glob("*.png")} == {"00000-test_0000.png", "00001-test_0001.png"}
    assert Image.open("out/00000-test_0000.png").width == 640

    table = cli("predict", "run", "shapes", "--out", "boxes.csv", "method.threshold=0")
    assert table.exit_code == 0, table.output
    with Path("boxes.csv").open() as file:
        assert len({row["path"] for row in csv.DictReader(file)}) == 10
    assert json.loads(cli("evaluate", "run", "--split", "val", "--json").stdout)["val/samples"] == 2
    drawn = cli("preview", "relation_detr/shapes", *SMALL, "--out", "preview.png", "--count", "2")
    assert drawn.exit_code == 0, drawn.output
    assert Image.open("preview.png").width > 800
    refused("predict", "run", "shapes", "--out", "boxes.json", "--force", says=r"image_id 1; .*data\.labels=FILE")
    refused("predict", "run", "shapes", "--out", "boxes.txt", says=r"\.jsonl nor \.csv nor \.json")
