"""The task for bags without a trainer: what it builds or refuses, and what its steps hide, weigh and measure."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.mil import losses
from models.mil.attention_maps import AttentionMaps
from models.mil.bags import BagOutput
from models.mil.stkim import MaskDraw
from vision_train.artefacts import Curve, Items, Table
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.tasks.bags import scores
from vision_train.tasks.bags.task import BagTask, build

CLASSES = ("benign", "malignant")
WIDTH = 6
NETWORKS = ("acmil_ga", "acmil_mha", "abmil", "clam_sb", "transmil", "mean", "max")
HIDING = "method.hiding={top_k: 10, drop_ratio: 0.6}"


def make(*overrides: str, name: str = "acmil_ga", classes: tuple[str, ...] = CLASSES) -> BagTask:
    torch.manual_seed(0)
    small = (f"model.name={name}", "model.args.width=8", f"data.feature_width={WIDTH}")
    task = build(load_recipe("studies/acmil/digit_bags_abmil", [*small, *overrides]), classes)
    task.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    at_step(task, 0)
    return task


def at_step(task: BagTask, step: int, rank: int = 0) -> None:
    task.trainer = SimpleNamespace(global_step=step, global_rank=rank, log_every_n_steps=1, is_last_batch=True)


def batch_of(*sizes: int) -> dict[str, Any]:
    """Bags whose padding would be noticed."""
    features = torch.full((len(sizes), max(sizes), WIDTH), torch.nan)
    for row, size in zip(features, sizes, strict=True):
        row[:size] = torch.randn(size, WIDTH)
    return {
        "id": [f"bag {index}" for index in range(len(sizes))],
        "features": features,
        "padding_mask": features[..., 0].isnan(),
        "label": torch.arange(len(sizes)) % 2,
        "coords": [torch.zeros(size, 2, dtype=torch.int64) for size in sizes],
        "patch_size_level0": [None] * len(sizes),
    }


def logged_by(task: BagTask) -> dict[str, Any]:
    values: dict[str, Any] = {}
    task.log_dict = lambda found, **_: values.update(found)  # type: ignore[method-assign]
    return values


def drawn_for(task: BagTask, step: str, batch: dict[str, Any]) -> MaskDraw | None:
    """The draw that a step gives the network."""
    seen: list[Any] = []
    hook = task.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    with torch.set_grad_enabled(step == "training_step"):
        getattr(task, step)(batch, 0)
    hook.remove()
    return seen[0]


class TestBuilding:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_attention_is_measured_where_there_is_one(self, name):
        attends = name not in ("mean", "max")
        assert make(name=name).metrics == (*scores.METRICS, *(scores.ATTENTION_METRICS if attends else ()))

    @pytest.mark.parametrize(
        ("name", "overrides", "message"),
        [
            ("acmil", [], r"^model\.name=acmil: no network for bags; there are acmil_ga, acmil_mha, abmil, clam_sb, "),
            ("vit_tiny_patch16_224", [], r"no network for bags"),
            ("mean", [HIDING], r"^method\.hiding: mean has no attention .*; set it to null"),
            ("transmil", [HIDING], r"^method\.hiding: transmil has no attention"),
            ("max", ["method.entropy_weight=0.1"], r"^method\.entropy_weight: max has no attention .*; set it to 0"),
            ("transmil", ["method.entropy_weight=0.1"], r"^method\.entropy_weight: transmil has no attention in train"),
            (
                "abmil",
                ["method.instance_weight=0.3"],
                r"^method\.instance_weight: abmil has no instance classifiers, as",
            ),
            ("acmil_ga", ["model.args.depth=3"], r"^model\.name=acmil_ga: refuses model\.args=.*unexpected.*'depth'"),
            ("mean", ["model.args.branches=2"], r"^model\.name=mean: refuses model\.args=.*unexpected.*'branches'"),
            ("acmil_mha", ["model.args.width=12"], r"^model\.name=acmil_mha: .*8 heads; 12 is no multiple"),
            ("transmil", ["model.args.width=12"], r"^model\.name=transmil: .*12 cannot be split into 8 heads"),
            (
                "acmil_ga",
                ["model.args.branches=0"],
                r"^model\.args\.branches: is 0; must be a whole number, at least 1",
            ),
            ("acmil_ga", ["model.args.branches=-1"], r"^model\.args\.branches: is -1; must be"),
            ("acmil_ga", ["model.args.attention_width=x"], r"^model\.args\.attention_width: is x; must be a whole"),
            ("abmil", ["model.args.width=0"], r"^model\.args\.width: is 0; must be"),
            ("clam_sb", ["model.args.instances=1.5"], r"^model\.args\.instances: is 1\.5; must be"),
        ],
    )
    def test_what_no_network_can_do_is_refused(self, name, overrides, message):
        with pytest.raises(UserError, match=message):
            make(*overrides, name=name)

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("data.source=digits", "data.source: is `digits`; expected bags | digit_bags"),
            ("data.image_size=96", "data.image_size: unknown key; there are source, root"),
            ("data.probe=photos", "data.probe: unknown key; there are source, root"),
            ("data.on_bad_image=skip", "data.on_bad_image: unknown key; did you mean data.on_bad?"),
            ("augment.train.color_jitter=0.3", "augment: is for images; features are taken as they are"),
            ("augment.mixing={maskmix: 0, mixup: 1, cutmix: 0}", "augment: is for images"),
            ("model.args.in_features=64", "model.args.in_features: is not for a recipe to set: the data say it"),
            ("model.args.classes=2", "model.args.classes: is not for a recipe to set"),
            ("model.attention=math", "model.attention: is for networks that see images; bags have no use for it"),
            ("model.positions=sincos", "model.positions: is for networks that see images"),
            ("model.head_std=0.1", "model.head_std: is for networks that see images"),
            ("optim.layer_decay=0.7", "optim.layer_decay: is set, but networks for bags have no layers to tell apart"),
            ("method.branch_weight=-1", "method.branch_weight: is -1.0; must be 0 or more"),
            ("method.diversity_weight=-1", "method.diversity_weight: is -1.0; must be 0 or more"),
            ("method.entropy_weight=-1", "method.entropy_weight: is -1.0; must be 0 or more"),
            ("method.instance_weight=1", "method.instance_weight: is 1.0; must lie in [0, 1)"),
            (
                "method.hiding={top_k: 0}",
                "method.hiding.top_k: is 0; must be at least 1 (method.hiding=null hides nothing",
            ),
            ("method.hiding={drop_ratio: 1.2}", "method.hiding.drop_ratio: is 1.2; must lie in [0, 1]"),
            ("method.hiding={k_max_fraction: 0}", "method.hiding.k_max_fraction: is 0.0; must lie in (0, 1]"),
            ("method.hiding={warmup_epochs: -1}", "method.hiding.warmup_epochs: is -1.0; must be 0 or more"),
            ("method.hiding={mode: some}", "method.hiding.mode: is `some`; expected exact | bernoulli"),
            (
                "data.root=bags",
                "data.source: `digit_bags` is bundled and takes no root or labels; set data.source=bags",
            ),
            ("data.splits={val: 0.1}", "data.splits: is given, but `digit_bags` come divided; leave it null"),
            ("data.feature_width=0", "data.feature_width: is 0; must be at least 1"),
            ("data.label_map=3", "data.label_map: is 3; expected a mapping"),
        ],
    )
    def test_keys_and_values_without_sense_are_refused(self, override, message):
        with pytest.raises(UserError) as refused:
            make(override)
        assert message in str(refused.value)

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (["data.source=bags"], "data.root: no features named; set data.root=FOLDER"),
            (
                ["data.source=bags", "data.root=x", "data.variant=rare"],
                "data.variant: belongs to data.source=digit_bags; leave it null",
            ),
            (["data.source=bags", "data.root=x", "data.splits={dev: 0.1}"], "data.splits.dev: unknown split"),
        ],
    )
    def test_keys_of_bags_on_disk_are_checked(self, overrides, message):
        with pytest.raises(UserError) as refused:
            make(*overrides)
        assert message in str(refused.value)

    @pytest.mark.parametrize("override", ["label_map={a: b}", "feature_width=64", "encoder=uni", "splits=splits_0.csv"])
    def test_keys_of_bags_are_refused_for_images(self, override):
        with pytest.raises(UserError, match=rf"data\.{override.split('=')[0]}: .*(unknown key|expected a mapping)"):
            load_recipe("quickstart", [f"data.{override}"])

    def test_notes_say_where_a_network_is_trained_otherwise_than_published(self):
        assert make(HIDING).notes == []
        assert make(name="abmil").notes == []
        assert "method.hiding=null trains it as published" in make(HIDING, name="abmil").notes[0]


class TestLosses:
    WEIGHTS = ("method.branch_weight=0.5", "method.diversity_weight=0.25")

    @pytest.mark.parametrize("name", NETWORKS)
    def test_terms_are_those_of_the_network(self, name):
        expected = {"acmil_ga": {"branch_loss", "diversity_loss"}, "clam_sb": {"instance_loss"}}
        expected["acmil_mha"] = expected["acmil_ga"]
        task = make(name=name)
        logged = logged_by(task)
        loss = task.training_step(batch_of(20, 7), 0)
        assert logged.keys() == {f"train/{term}" for term in {"bag_loss", *expected.get(name, ())}}
        assert loss.isfinite()
        if not expected.get(name):
            assert loss == logged["train/bag_loss"]

    @pytest.mark.parametrize("name", ["acmil_ga", "acmil_mha"])
    def test_branches_and_diversity_are_weighted(self, name):
        task, batch = make(*self.WEIGHTS, "method.entropy_weight=0.1", name=name), batch_of(20, 7)
        task.eval()  # no dropout, so that a second look sees the same
        output: BagOutput = task(batch)
        expected = (
            losses.bag_loss(output.bag_logits, batch["label"])
            + 0.5 * losses.branch_loss(output.branch_logits, batch["label"])
            + 0.25 * losses.diversity_loss(output.attention)
            + 0.1 * losses.negative_entropy(output.attention)
        )
        torch.testing.assert_close(task.training_step(batch, 0), expected)

    def test_defaults_are_the_published_sum(self):
        terms = {name: torch.tensor(value) for name, value in (("bag_loss", 1.0), ("branch_loss", 2.0))}
        assert make().weigh(terms | {"diversity_loss": torch.tensor(4.0)}).item() == 7

    def test_instances_take_their_share_from_the_bag(self):
        terms = {"bag_loss": torch.tensor(1.0), "instance_loss": torch.tensor(10.0)}
        assert make("method.instance_weight=0.3", name="clam_sb").weigh(terms).item() == pytest.approx(0.7 + 3)
        assert make(name="clam_sb").weigh(terms).item() == 1

    def test_losses_are_logged_at_the_trainer_s_pace(self):
        task = make()
        task.trainer = SimpleNamespace(global_step=0, log_every_n_steps=2, is_last_batch=False)
        logged = logged_by(task)
        task.training_step(batch_of(5), 0)
        assert not logged
        task.training_step(batch_of(5), 1)
        assert logged


class TestHiding:
    def test_hides_in_training_alone(self):
        task, batch = make(HIDING), batch_of(20, 7)
        draw = drawn_for(task, "training_step", batch)
        assert draw is not None
        assert draw.noise.shape == (2, 5, 10)
        assert (draw.masking.top_k, draw.masking.drop_ratio) == (10, 0.6)
        task.on_validation_epoch_start()
        task.on_test_epoch_start()
        for step in ("validation_step", "test_step", "predict_step"):
            assert drawn_for(task.eval(), step, batch) is None

    def test_hides_nothing_unless_told_to(self):
        assert drawn_for(make(), "training_step", batch_of(20)) is None
        assert make().random_generators() == {}

    def test_begins_after_the_warm_up(self):
        task = make("method.hiding={warmup_epochs: 1.5}")
        task.steps_per_epoch = 10
        for step, hides in ((0, False), (14, False), (15, True), (100, True)):
            at_step(task, step)
            assert (drawn_for(task, "training_step", batch_of(20)) is not None) == hides

    def test_draws_are_seeded_for_each_process_and_go_on_where_they_were(self):
        drawn = {}
        for name, seed, rank in (("first", 0, 0), ("again", 0, 0), ("seed", 1, 0), ("rank", 0, 1)):
            task = make(HIDING, f"seed={seed}")
            at_step(task, 0, rank)
            task.on_fit_start()
            drawn[name] = [drawn_for(task, "training_step", batch_of(20)).noise for _ in range(2)]
        assert torch.equal(drawn["first"][0], drawn["again"][0])
        for other in (drawn["first"][1], drawn["seed"][0], drawn["rank"][0]):
            assert not torch.equal(drawn["first"][0], other)
        task = make(HIDING)
        (generator,) = task.random_generators().values()
        drawn_for(task, "training_step", batch_of(20))
        state = generator.get_state()
        expected = drawn_for(task, "training_step", batch_of(20)).noise
        generator.set_state(state)
        assert torch.equal(drawn_for(task, "training_step", batch_of(20)).noise, expected)


class TestEvaluation:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_validation_measures_what_it_says(self, name):
        task = make(name=name).eval()
        logged = logged_by(task)
        task.on_validation_epoch_start()
        for sizes in ((20, 7, 1), (9,)):
            task.validation_step(batch_of(*sizes), 0)
        task.on_validation_epoch_end()
        assert logged.keys() == {f"val/{metric.name}" for metric in task.metrics}
        assert all(math.isfinite(value) for value in logged.values())


@torch.no_grad()
def artefacts_of(task: BagTask, *sizes: int) -> dict[str, Any]:
    """Artefacts of a test pass over one batch, by name."""
    task.eval().on_test_epoch_start()
    task.test_step(batch_of(*sizes), 0)
    task.on_test_epoch_end()
    return {artefact.name: artefact for artefact in task.artefacts()}


class TestTestPass:
    def test_shows_results_and_the_most_telling_bags(self):
        task = make("data.encoder=pixels")
        task.test_split = "val"
        logged = logged_by(task)
        found = artefacts_of(task, 30, 25, 12, 9)
        assert "val/auroc" in logged
        kinds = {"summary": Table, "attention_cumulative": Curve, "items": Items, "attention": AttentionMaps}
        assert {name: type(found[f"val_{name}"]) for name in kinds} == kinds
        assert found["val_summary"].rows[0] == ["bags", 4]
        held = found["val_attention_cumulative"].lines["mean over bags"]
        assert held == sorted(held)
        assert held[-1] == pytest.approx(1)
        assert max(held) <= 1, "an axis of shares ends at 1"
        assert found["val_items"].values.keys() == {
            "accuracy",
            "loss",
            *(metric.name for metric in scores.ATTENTION_METRICS),
        }
        assert found["val_items"].recomputed.keys() == {"auroc", "f1", "f1_and_auroc", "balanced_accuracy"}
        shapes = {bag.id: bag.attention.shape for bag in found["val_attention"].bags}
        assert shapes == {f"bag {index}": (5, size) for index, size in enumerate((30, 25, 12, 9))}

    def test_without_attention_shows_results_alone(self):
        found = artefacts_of(make(name="max"), 30, 25)
        assert not [
            name for name, artefact in found.items() if isinstance(artefact, AttentionMaps) or "attention" in name
        ]
        assert found["test_items"].values.keys() == {"accuracy", "loss"}
