"""The pre-training task without a trainer: what it builds or refuses, and what its steps draw, weigh and measure."""

from types import SimpleNamespace

import pytest
import torch

from models.droppos.smoothing import position_targets
from vision_train.artefacts import ImageGrid, Items, Table
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.tasks.pretraining.task import PretrainingTask, build

SMALL = (
    *("model.args.embed_dim=24", "model.args.depth=1", "method.decoder.width=16", "method.decoder.depth=1"),
    "optim.warmup_epochs=0",
)
NAMES = [f"image {index}" for index in range(10)]


def make(*overrides: str, recipe: str = "droppos/digits", classes: tuple[str, ...] = ()) -> PretrainingTask:
    torch.manual_seed(0)
    return build(load_recipe(recipe, [*SMALL, *overrides], runnable=False), classes)


def names_of(task: PretrainingTask) -> list[str]:
    return [metric.name for metric in task.metrics]


def batch_of(names: list[str], labels: bool = False) -> dict:
    """Images that follow from their names, so that a name means the same image in every batch."""
    images = [
        torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(len(name) + ord(name[-1]))) for name in names
    ]
    batch = {"id": names, "image": torch.stack(images), "size": [(8, 8)] * len(names)}
    return batch | ({"label": torch.tensor([ord(name[-1]) % 2 for name in names])} if labels else {})


def masks_used(task: PretrainingTask, names: list[str]):
    seen = []
    hook = task.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    task.on_validation_epoch_start()
    task.validation_step(batch_of(names), 0)
    hook.remove()
    return seen[0]


def validate(task: PretrainingTask, *batches: list[str], probe: tuple[list[str], ...] = ()) -> dict[str, float]:
    """Metrics of a validation over these batches, as they are logged."""
    logged: dict[str, float] = {}
    task.log_dict = lambda values, **_: logged.update(values)
    task.eval()
    with torch.no_grad():
        task.on_validation_epoch_start()
        for names in batches:
            task.validation_step(batch_of(names), 0)
        for loader, names in enumerate(probe, start=1):
            task.validation_step(batch_of(names, labels=True), 0, loader)
        task.on_validation_epoch_end()
    return logged


class TestBuilding:
    def test_metrics_name_the_probe_only_where_there_is_one(self):
        assert names_of(make()) == ["acc1", "acc1_weighted", "hard_ce", "grid_distance"]
        assert names_of(make(classes=("cat", "dog")))[-1] == "probe_accuracy"

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (
                ["data.image_size=18"],
                r"^model\.name=vit: .*patches of 4 pixels; a height of 18 is no multiple, 16 and 20 fit",
            ),
            (["method.masking.mask_ratio=0.99"], r"^method\.masking\.mask_ratio=0\.99 leaves none of 16 patches"),
            (["method.masking.context_ratio=0.01"], r"^method\.masking\.context_ratio=0\.01 leaves none of 12 patches"),
            (
                ["method.smoothing.compat=official", "data.image_size=24"],
                r"^method\.smoothing\.compat=official .*6 x 6",
            ),
            (
                ["model.args.global_pool=avg"],
                r"model\.args\.global_pool: .*pre-training pools nothing",
            ),
            (["model.args.class_token=false"], r"^model\.name=vit: .*class token.*plain vision transformers"),
            (["model.args.embed_dim=26"], "has a width of 26, and sin-cos positions need a multiple of 4"),
            (["model.args.patch_drop_rate=0.5"], r"drops patches by itself .patch_drop_rate."),
            (["augment.mixing.cutmix=0.5"], r"augment\.mixing: mixes images, which pre-training does not"),
            (["model.head_std=0.1"], r"model\.head_std: is set, but pre-training has no classifier"),
            (["optim.layer_decay=0.7"], r"optim\.layer_decay: is set, but pre-training trains all layers alike"),
            (["model.args.in_chans=1"], r"model\.args\.in_chans: .*images have three channels"),
            (["model.args.depth=0"], r"^model\.name=vit: .*has no blocks"),
            (["model.args.fc_norm=true"], r"leave fc_norm and final_norm as they are"),
        ],
    )
    def test_what_cannot_be_pretrained_is_refused(self, overrides, message):
        with pytest.raises(UserError, match=message):
            make(*overrides)

    @pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
    def test_networks_of_other_kinds_are_refused_with_those_that_suit(self, name):
        recipe = load_recipe("droppos/vit_base", [f"model.name={name}"], runnable=False)
        with pytest.raises(UserError, match=rf"^model\.name={name}: .*plain vision transformers of timm") as caught:
            build(recipe, [])
        assert "\n" not in str(caught.value)


class TestMasks:
    @pytest.mark.parametrize("recipe", ["droppos/digits", "studies/droppos/digits_mp3"])
    def test_of_validation_follow_from_the_id_alone(self, recipe):
        whole = masks_used(make(recipe=recipe), NAMES)
        other = make("seed=7", recipe=recipe)
        other.sampler.draw(5)
        backwards = masks_used(other, NAMES[::-1])
        for name, found in zip(NAMES, zip(*(part for part in whole if part is not None), strict=True), strict=True):
            row = NAMES[::-1].index(name)
            alone = masks_used(other, [name])
            for kind, part in enumerate(found):
                assert torch.equal(part, backwards[kind][row])
                assert torch.equal(part, alone[kind][0])
        assert len({tuple(row.tolist()) for row in whole.visible}) == len(NAMES)

    def test_of_training_follow_from_the_seed_and_the_process(self):
        draws = [make(f"seed={seed}").sampler.draw(6).visible for seed in (0, 0, 1)]
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])
        task = make()
        task.trainer = SimpleNamespace(global_rank=1)
        task.on_fit_start()
        assert not torch.equal(draws[0], task.sampler.draw(6).visible)

    def test_of_training_are_not_disturbed_by_validation(self):
        task, quiet = make(), make()
        validate(task, NAMES)
        assert torch.equal(task.sampler.draw(3).visible, quiet.sampler.draw(3).visible)
        assert task.random_generators() == {"masks": task.sampler.generator}


class TestSmoothing:
    @staticmethod
    def targets(task: PretrainingTask, epoch: int) -> torch.Tensor:
        task.trainer = SimpleNamespace(current_epoch=epoch)
        task.steps_per_epoch, task.total_steps = 5, 18  # as with trainer.max_steps=18: four epochs, the last cut short
        task.on_train_epoch_start()
        return task.targets

    def test_narrows_with_the_epoch_to_almost_nothing(self):
        task = make()
        for epoch, sigma in enumerate((1.0, 0.75, 0.5, 0.25)):
            assert torch.equal(self.targets(task, epoch), position_targets((4, 4), sigma))
        assert (self.targets(task, 3) - torch.eye(16)).abs().max() < 1e-6

    def test_stays_where_it_is_told_to(self):
        task = make("method.smoothing.decay=false", "method.smoothing.sigma=0.7")
        assert torch.equal(self.targets(task, 0), self.targets(task, 3))
        assert torch.equal(self.targets(task, 0), position_targets((4, 4), 0.7))
        assert torch.equal(self.targets(make("method.smoothing.sigma=0"), 2), torch.eye(16))

    def test_repeats_the_released_loop_on_request(self):
        task = make("method.smoothing.compat=official", "model.args.patch_size=4", "data.image_size=12")
        expected = position_targets((3, 3), 0.5, compat="official", patch=4)
        assert torch.equal(self.targets(task, 2), expected)
        assert not torch.allclose(expected, position_targets((3, 3), 0.5))


class TestTrainingStep:
    @staticmethod
    def step(task: PretrainingTask, number: int = 0) -> tuple[torch.Tensor, dict]:
        logged: dict[str, float] = {}
        task.log_dict = lambda values, **_: logged.update(values)
        task.trainer = SimpleNamespace(global_step=number)
        return task.training_step(batch_of(NAMES), 0), logged

    def test_only_every_nth_step_is_weighted(self, monkeypatch):
        task = make("method.affinity.every=3")
        steps, weigh = [], task.network.affinity_weights
        monkeypatch.setattr(
            task.network, "affinity_weights", lambda *given: steps.append(task.global_step) or weigh(*given)
        )
        for number in range(7):
            self.step(task, number)
        assert steps == [0, 3, 6]

    def test_terms_of_a_sum_are_logged(self):
        loss, logged = self.step(make(recipe="studies/droppos/digits_pixels"))
        assert logged.keys() == {"train/position_loss", "train/pixel_loss"}
        positions, pixels = (logged[f"train/{term}_loss"].item() for term in ("position", "pixel"))
        assert loss.item() == pytest.approx(0.05 * positions + pixels)
        assert self.step(make())[1] == {}

    @pytest.mark.parametrize(
        "overrides",
        [
            ["method.masking.position_mask_ratio=0"],
            ["method.masking.position_mask_ratio=0", "method.affinity=null"],
        ],
    )
    def test_no_dropped_position_is_no_loss_and_no_nan(self, overrides):
        task = make(*overrides, classes=("cat", "dog"))
        loss, _ = self.step(task)
        loss.backward()
        assert loss.item() == 0
        trained = [parameter for parameter in task.network.parameters() if parameter.requires_grad]
        assert all(parameter.grad is not None and not parameter.grad.any() for parameter in trained)
        metrics = validate(task, NAMES, probe=(NAMES, NAMES))
        assert metrics.pop("val/probe_accuracy") == 1
        assert set(metrics.values()) == {0.0}

    @pytest.mark.parametrize(
        "recipe", ["droppos/digits", "studies/droppos/digits_mp3", "studies/droppos/digits_pixels"]
    )
    def test_every_trained_parameter_receives_a_gradient(self, recipe):
        """What training in several processes relies on, which looks for no unused parameters."""
        task = make(recipe=recipe)
        self.step(task)[0].backward()
        assert [n for n, p in task.network.named_parameters() if p.requires_grad and p.grad is None] == []

    def test_a_compiled_network_does_the_same(self):
        """The compiler itself is torch's; a backend that only traces shows whether the network can be traced."""
        plain, compiled = make(), make()
        compiled.network.compile(backend="eager", fullgraph=True)
        losses = [self.step(task)[0] for task in (plain, compiled)]
        assert losses[0].item() == losses[1].item()
        for task, loss in zip((plain, compiled), losses, strict=True):
            task.network.zero_grad()
            loss.backward()
        gradients = (dict(task.network.named_parameters()) for task in (plain, compiled))
        for (name, one), (other_name, other) in zip(*(group.items() for group in gradients), strict=True):
            assert name == other_name
            assert (one.grad is None and other.grad is None) or torch.equal(one.grad, other.grad)


class TestValidation:
    @pytest.mark.parametrize(
        "recipe", ["droppos/digits", "studies/droppos/digits_mp3", "studies/droppos/digits_pixels"]
    )
    def test_does_not_depend_on_the_batches(self, recipe):
        task = make(recipe=recipe)
        whole = validate(task, NAMES)
        assert whole.keys() == {f"val/{name}" for name in names_of(task)}
        split = validate(task, NAMES[6:], NAMES[:1], NAMES[1:6])
        assert split == {name: pytest.approx(value, abs=1e-6) for name, value in whole.items()}

    def test_counts_an_image_that_comes_twice_once(self):
        task = make()
        assert validate(task, NAMES[:4], NAMES[2:]) == pytest.approx(validate(task, NAMES), abs=1e-6)

    def test_does_not_know_the_epoch(self):
        """Smoothing changes with it; the hard cross-entropy of epochs can be compared."""
        task = make()
        first = validate(task, NAMES)
        TestSmoothing.targets(task, 3)
        assert validate(task, NAMES) == first

    def test_probe_reads_features_with_positions_only_where_the_network_has_seen_some(self, monkeypatch):
        for recipe, positions in (("droppos/digits", True), ("studies/droppos/digits_mp3", False)):
            task, asked = make(recipe=recipe, classes=("even", "odd")), []
            features = task.network.features

            def watch(images, *, positions, asked=asked, features=features):
                asked.append(positions)
                return features(images, positions=positions)

            monkeypatch.setattr(task.network, "features", watch)
            metrics = validate(task, NAMES, probe=(NAMES, NAMES[:4]))
            assert metrics["val/probe_accuracy"] == 1
            assert asked == [positions] * 2

    def test_shows_metrics_items_and_pictures(self):
        task = make(classes=("even", "odd"))
        logged: dict[str, float] = {}
        task.log_dict = lambda values, **_: logged.update(values)
        task.eval()
        with torch.no_grad():
            task.on_test_epoch_start()
            task.test_step(batch_of(NAMES), 0)
            for loader in (1, 2):
                task.test_step(batch_of(NAMES, labels=True), 0, loader)
            task.on_test_epoch_end()
        assert logged == validate(task, NAMES, probe=(NAMES, NAMES))
        table, items, pictures = task.artefacts()
        assert isinstance(table, Table)
        assert isinstance(items, Items)
        assert isinstance(pictures, ImageGrid)
        # Of 16 patches 12 stay, and 9 of these lose their position.
        assert table.rows[:2] == [["images", 10], ["dropped positions", 90]]
        assert items.ids == NAMES
        for name in ("acc1", "hard_ce", "grid_distance"):
            assert sum(items.values[name]) / 10 == pytest.approx(logged[f"val/{name}"])
        assert len(pictures.images) == 10
