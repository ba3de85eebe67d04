"""A detector learns a handful of images by heart."""

import pytest
import torch

from vision_train.data.boxes.build import build as build_data
from vision_train.recipe import load_recipe
from vision_train.tasks.detection.precision import measure
from vision_train.tasks.detection.task import build

STEPS = 120
SIZES = (
    "model.args.encoder_layers=1",
    "model.args.decoder_layers=2",
    "model.args.queries=20",
    "method.denoising.count=32",
)


@pytest.mark.slow
@pytest.mark.parametrize("relation", ["true", "false"])
def test_item_16_eight_images_are_overfitted_to_an_ap50_above_0_9(relation):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = load_recipe("relation_detr/shapes", [*SIZES, f"model.args.relation={relation}"])
    data = build_data(recipe)
    task = build(recipe, data.classes)
    # Without augmentation, as in evaluation.
    dataset = data.make_dataset(data.samples("train")[:8], stream=None, alone=True)
    batch = dataset.to_batch([dataset[number, 0] for number in range(8)])
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS, pct_start=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        task.training_step(batch, 0).backward()
        torch.nn.utils.clip_grad_norm_(task.network.parameters(), 0.1)
        optimizer.step()
        schedule.step()
    task.eval()
    with torch.no_grad():
        task.begin_pass()
        task.score(batch)
    measured = measure(task.scores.gather(), task.classes)
    print(measured)
    assert measured["ap50"] > 0.9
