"""What building the arms finds out before the first run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vision_train.data.fold_section import Fold
from vision_train.data.toy.folder import make_image_folder
from vision_train.errors import UserError
from vision_train.recipe import load_recipe, write_recipe
from vision_train.run.phase import prepare, scan
from vision_train.study.plan import make_plan
from vision_train.study.resolved import resolve_arms
from vision_train.study.study import pretraining_digests


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def build(*arguments: str, grid: str | None = None):
    return resolve_arms(make_plan(arguments, 2, grid))


def test_steps_rate_and_test_images_are_those_of_the_runs(recipes):
    small = "optim.lr_reference_batch=128"
    (plain,), (mixed,) = build("plain.yaml", "mixed.yaml", small, "trainer.accumulate_grad_batches=4")
    # Of the four batches of 64 images that are asked for, an epoch has two.
    assert (plain.steps, plain.learning_rate) == (40, pytest.approx(0.002 * 64 * 2 / 128))
    assert (plain.test_samples, len(plain.classes)) == (300, 10)
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
    with pytest.raises(UserError, match=r"photos and cut: are not tested on the same samples \(2 and 8\).*data.splits"):
        build("photos.yaml", "cut.yaml")
    with pytest.raises(UserError, match=r"photos and elsewhere: are not tested on the same.*data.root"):
        build("photos.yaml", "elsewhere.yaml")
    with pytest.raises(UserError, match=r"plain and photos: have 10 and 2 classes"):
        build("plain.yaml", "photos.yaml")


def test_networks_are_compared_on_the_same_bags(recipes):
    arms = build("studies/acmil/digit_bags_abmil", "studies/acmil/digit_bags_mean", grid="data.variant=rare,patterns")
    (rare, patterns), other = arms
    assert [setting.test_digest for setting in other] == [rare.test_digest, patterns.test_digest]
    assert rare.test_samples == patterns.test_samples == 200
    assert rare.test_digest != patterns.test_digest
    Path("patterns.yaml").write_text("extends: studies/acmil/digit_bags_mean\ndata: {variant: patterns}\n")
    with pytest.raises(UserError, match=r"are not tested on the same samples \(200 and 200\).*data.variant"):
        build("studies/acmil/digit_bags_mean", "patterns.yaml")


def photos(*parts: str) -> str:
    """A recipe on `photos/`, with further lines."""
    data = "data: {source: images, labels_per_class: null, root: photos"
    return "\n".join([f"extends: plain.yaml\n{data}{parts[0] if parts else ''}}}", *parts[1:], ""])


def test_pretraining_on_images_that_the_arm_is_tested_on_is_refused(recipes):
    make_image_folder(Path("photos"), classes=2, per_class=12, size=(24, 20))
    Path("plain_photos.yaml").write_text(photos())
    Path("all.yaml").write_text(photos(", splits: {test: 0.1, val: 0.4}", "trainer: {max_epochs: 2}"))
    Path("cut.yaml").write_text(photos(", splits: {test: 0.4, val: 0.1}", "run: {pretrain: all.yaml}"))
    Path("same.yaml").write_text(photos("", "trainer: {max_epochs: 2}"))
    Path("fair.yaml").write_text(photos("", "run: {pretrain: same.yaml}"))
    with pytest.raises(
        UserError, match=r"^cut: \d+ samples that it is validated or tested on, such as .*of its phase pretrain \(all\)"
    ):
        build("plain_photos.yaml", "cut.yaml", "data.splits={test: 0.4, val: 0.1}")
    (fair,) = build("plain_photos.yaml", "fair.yaml")[1]
    assert [phase.name for phase in fair.phases] == ["pretrain", "fit"]


def test_images_are_known_beyond_the_label_subset_of_the_first_seed(recipes):
    make_image_folder(Path("photos"), classes=2, per_class=12, size=(24, 20))
    Path("few.yaml").write_text(photos().replace("labels_per_class: null", "labels_per_class: 1"))
    Path("fast.yaml").write_text("extends: few.yaml\noptim: {lr: 0.01}\n")
    (before,) = build("few.yaml", "fast.yaml")[0]
    data = prepare(scan(before.recipe)).data
    drawn = {sample.image for split in ("train", "val", "test") for sample in data.split_loader(split).dataset.samples}
    next(path for path in Path("photos").absolute().rglob("*.*") if str(path) not in drawn).unlink()
    (after,) = build("few.yaml", "fast.yaml")[0]
    assert before.phases[0].training_samples == after.phases[0].training_samples == 2
    assert before.phases[0].samples != after.phases[0].samples


def test_weights_to_start_from_are_known_by_their_bytes(recipes):
    Path("from_file.yaml").write_text("extends: plain.yaml\nmodel: {checkpoint: start.safetensors}\n")
    digests = []
    for scale in (1.0, 2.0):
        state = prepare(scan(load_recipe("plain.yaml"))).task.network.state_dict()
        save_file({name: scale * weight for name, weight in state.items()}, "start.safetensors")
        plain, started = build("plain.yaml", "from_file.yaml")
        digests.append(started[0].phases[0].weights)
        assert plain[0].phases[0].weights == ""
    assert len(set(digests)) == 2


def test_weights_of_a_run_that_saw_the_test_images_are_refused(recipes):
    make_image_folder(Path("photos"), classes=2, per_class=12, size=(24, 20))
    Path("plain_photos.yaml").write_text(photos())
    Path("started.yaml").write_text(photos("", "model: {checkpoint: before}"))
    for name, cut in (("before", 0.1), ("fair", 0.4)):
        phase = Path(name, "phases", "fit")
        phase.mkdir(parents=True)
        recipe = load_recipe("plain_photos.yaml", [f"data.splits={{test: {cut}}}"])
        for folder in (phase, Path(name)):
            write_recipe(folder / "recipe.yaml", recipe)
        Path(name, "checkpoints").mkdir()
        save_file(prepare(scan(recipe)).task.network.state_dict(), f"{name}/checkpoints/best.ckpt")
    with pytest.raises(UserError, match=r"^started: \d samples that it is tested on, .*before learnt from; divide"):
        build("plain_photos.yaml", "started.yaml", "data.splits={test: 0.4}")
    Path("started.yaml").write_text(photos("", "model: {checkpoint: fair}"))
    build("plain_photos.yaml", "started.yaml", "data.splits={test: 0.4}")
    Path("voted.yaml").write_text(photos(", unlabelled: labelled", "semi: {method: self_training, voters: [before]}"))
    with pytest.raises(UserError, match=r"^voted: \d samples .*tested on, .*semi\.voters=.*before learnt from"):
        build("plain_photos.yaml", "voted.yaml", "data.splits={test: 0.4}")


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


def test_an_arm_in_rounds_is_one_run_of_the_recipe_that_was_asked_for_behind_its_pretraining(recipes):
    Path("pre.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 1}\n")
    semi = "semi: {method: active_rounds, burn_in: 0.3, rounds: {count: 2}}\n"
    rounds = f"extends: plain.yaml\ndata: {{unlabelled: rest}}\n{semi}"
    Path("rounds.yaml").write_text(rounds)
    Path("behind.yaml").write_text(f"{rounds}run: {{pretrain: pre.yaml}}\n")
    for (arm,), names in zip(build("rounds.yaml", "behind.yaml"), (["fit"], ["pretrain", "fit"]), strict=True):
        assert [phase.name for phase in arm.phases] == names
        assert arm.recipe.trainer["max_epochs"] == 40
        assert arm.recipe.semi.rounds.count == 2
        assert len(pretraining_digests(arm)) == len(names) - 1


def test_folds_are_cut_alike_for_all_arms(recipes):
    def build_folds(*arguments: str):
        return resolve_arms(make_plan(arguments, 1, None, 5))

    (plain,), (mixed,) = build_folds("plain.yaml", "mixed.yaml")
    assert plain.test_digest == mixed.test_digest
    assert 359 <= plain.test_samples <= 360
    Path("pre.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 2}\n")
    Path("tuned.yaml").write_text("extends: plain.yaml\nrun: {pretrain: pre.yaml}\n")
    with pytest.raises(UserError, match=r"tuned: \d+ samples .*learnt.*--folds"):
        build_folds("plain.yaml", "tuned.yaml")
    with pytest.raises(UserError, match=r"data\.source=digit_bags: names its own test split.*--folds"):
        build_folds("studies/acmil/digit_bags_abmil", "studies/acmil/digit_bags_mean")


def in_folds(*arguments: str, seeds: int = 1):
    return resolve_arms(make_plan(arguments, seeds, None, 5))


def test_what_some_fold_lacks_is_said_before_the_first_run(recipes):
    """One image alone bears `rare`: the fold that is tested on it would have nothing to learn it from."""
    make_image_folder(Path("photos"), classes=2, per_class=12, size=(24, 20))
    images = sorted(path.relative_to("photos") for path in Path("photos").rglob("*.*"))
    lines = [f"{path},{path.parts[-2]}{'|rare' if path == images[0] else ''}" for path in images]
    Path("photos.csv").write_text("\n".join(["path,label", *lines, ""]))
    options = photos(
        ", labels: photos.csv, multi_label: true", "run: {select: {metric: val/map}}", "method: {loss: bce}"
    )
    Path("several.yaml").write_text(options)
    Path("faster.yaml").write_text("extends: several.yaml\noptim: {lr: 0.01}\n")
    with pytest.raises(UserError, match=r"than 5 folds of rare \(1\)"):
        in_folds("several.yaml", "faster.yaml")


def test_copies_that_another_fold_divides_are_refused_before_the_first_run(recipes):
    make_image_folder(Path("photos"), classes=2, per_class=20, size=(24, 20))
    Path("slow.yaml").write_text(photos())
    Path("faster.yaml").write_text("extends: slow.yaml\noptim: {lr: 0.01}\n")
    original = min(Path("photos").absolute().rglob("*.*"))
    for number in range(20):  # the fold of an image depends on its place among all names
        copy = original.with_name(f"{number:04}_copy{original.suffix}")
        copy.write_bytes(original.read_bytes())
        tested = fold_of("slow.yaml", "faster.yaml")
        if len({tested[str(original)], tested[str(copy)], 1}) == 3:
            break
        copy.unlink()
    with pytest.raises(UserError, match=r"^slow: seed 0 fold [2-5]: .*copies of"):
        in_folds("slow.yaml", "faster.yaml")


def fold_of(*arguments: str) -> dict[str, int]:
    """Path of each image -> the number of the fold that is tested on it."""
    first = make_plan(arguments, 1, None, 5).arms[0].recipes[0]
    folds = [replace(first, data=replace(first.data, fold=Fold(number=number, of=5))) for number in range(1, 6)]
    return {sample.image: recipe.data.fold.number for recipe in folds for sample in scan(recipe).data.samples("test")}


def test_weights_that_saw_what_the_first_fold_validates_on_are_refused(recipes):
    """Another fold tests these samples."""
    make_image_folder(Path("photos"), classes=2, per_class=60, size=(24, 20))
    Path("plain_photos.yaml").write_text(photos())
    Path("started.yaml").write_text(photos("", "model: {checkpoint: before}"))
    first = make_plan(["plain_photos.yaml", "started.yaml"], 1, None, 5).arms[0].recipes[0]
    validated = scan(first).data.samples("val")
    lines = [f"{Path(sample.image).relative_to(Path('photos').absolute())},{sample.truth}" for sample in validated]
    Path("few.csv").write_text("\n".join(["path,label", *lines, ""]))
    earlier = load_recipe("plain_photos.yaml", ["data.labels=few.csv"])
    for folder in (Path("before/phases/fit"), Path("before")):
        folder.mkdir(parents=True, exist_ok=True)
        write_recipe(folder / "recipe.yaml", earlier)
    Path("before/checkpoints").mkdir()
    save_file(prepare(scan(earlier)).task.network.state_dict(), "before/checkpoints/best.ckpt")
    with pytest.raises(UserError, match=r"^started: \d samples that it is tested on, .*before learnt from; pre-train"):
        in_folds("plain_photos.yaml", "started.yaml")
