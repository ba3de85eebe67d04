"""What building the arms finds out before the first run."""

from pathlib import Path

import pytest
import torch

from vision_train.compare.plan import make_plan
from vision_train.compare.settings import build_settings
from vision_train.compare.study import pretraining_digests
from vision_train.data.toy.folder import make_image_folder
from vision_train.errors import UserError


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def build(*arguments: str, grid: str | None = None):
    return build_settings(make_plan(arguments, 2, grid))


def test_steps_rate_and_test_images_are_those_of_the_runs(recipes):
    small = "optim.lr_reference_batch=128"
    (plain,), (mixed,) = build("plain.yaml", "mixed.yaml", small, "trainer.accumulate_grad_batches=4")
    assert (plain.steps, plain.learning_rate) == (40, pytest.approx(0.002 * 64 * 4 / 128))
    assert (plain.test_images, len(plain.classes)) == (300, 10)
    assert mixed.test_digest == plain.test_digest


def test_a_label_subset_does_not_move_the_test_images(recipes):
    of_arms = build("plain.yaml", "mixed.yaml", grid="data.labels_per_class=10,40")
    assert len({setting.test_digest for of_arm in of_arms for setting in of_arm}) == 1
    assert of_arms[0][0].steps < of_arms[0][1].steps


def test_arms_on_other_test_images_are_refused(recipes):
    make_image_folder(Path("photos"), classes=2, per_class=12, size=(24, 20))
    make_image_folder(Path("others"), classes=2, per_class=12, size=(24, 20))
    base = "extends: plain.yaml\ndata: {source: images, labels_per_class: null, root: photos"
    Path("photos.yaml").write_text(base + "}\n")
    Path("cut.yaml").write_text(base + ", splits: {test: 0.3}}\n")
    Path("elsewhere.yaml").write_text(base.replace("root: photos", "root: others") + "}\n")
    with pytest.raises(UserError, match=r"photos and cut: are not tested on the same images \(2 and 8\).*data.splits"):
        build("photos.yaml", "cut.yaml")
    with pytest.raises(UserError, match=r"photos and elsewhere: are not tested on the same.*data.root"):
        build("photos.yaml", "elsewhere.yaml")
    with pytest.raises(UserError, match=r"plain and photos: have 10 and 2 classes"):
        build("plain.yaml", "photos.yaml")


def test_an_arm_that_cannot_be_built_is_named(recipes):
    Path("wrong.yaml").write_text("extends: plain.yaml\nmodel: {name: vit_smal_patch16_224}\n")
    with pytest.raises(UserError, match=r"^wrong: model.name=vit_smal_patch16_224"):
        build("plain.yaml", "wrong.yaml")


def test_pretraining_that_does_not_fit_is_refused_before_the_first_run(recipes):
    Path("wide.yaml").write_text("extends: plain.yaml\nmodel: {args: {embed_dim: 48}}\n")
    Path("pretrained.yaml").write_text("extends: plain.yaml\nrun: {pretrain: wide.yaml}\n")
    with pytest.raises(UserError, match=r"^pretrained: run.pretrain="):
        build("plain.yaml", "pretrained.yaml")


def test_pretraining_is_known_by_what_it_does_not_by_its_name(recipes):
    Path("one.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 2}\n")
    Path("two.yaml").write_text("extends: one.yaml\ndescription: The same.\n")
    Path("longer.yaml").write_text("extends: one.yaml\ntrainer: {max_epochs: 3}\n")
    for name in ("one", "two", "longer"):
        Path(f"from_{name}.yaml").write_text(
            f"extends: plain.yaml\nrun: {{pretrain: {name}.yaml}}\ntrainer: {{max_epochs: {len(name) + 1}}}\n"
        )
    one, two, longer = (
        pretraining_digests(setting) for (setting,) in build("from_one.yaml", "from_two.yaml", "from_longer.yaml")
    )
    assert one == two
    assert longer != one
    assert len(one) == 1
