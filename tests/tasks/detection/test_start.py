"""How a detector starts: published files, their classes, and starts that are refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vision_train.checkpoints import load_start, match_weights, read_weights
from vision_train.errors import UserError
from vision_train.optim import build_optimizer, freeze
from vision_train.recipe import load_recipe
from vision_train.tasks.detection.coco import NAMES
from vision_train.tasks.detection.task import DetectionTask, build

GOLDEN = Path(__file__).parents[2] / "golden" / "relation_detr"
COCO = list(NAMES.values())
TINY = [
    "model.args.backbone=resnet10t",
    "model.args.backbone_args={channels: [8, 16, 16, 32], stem_type: '', norm_layer: batchnorm2d}",
    "model.args.hybrid_queries=4",
]


def detector(classes: list[str], *, ids: list[int] | None = None, checkpoint: object = None, **model) -> DetectionTask:
    recipe = load_recipe("relation_detr/shapes", TINY, smoke=True)
    section = replace(recipe.data, category_ids=ids or [*range(1, len(classes) + 1)])
    model = replace(recipe.model, checkpoint=checkpoint, **model)
    return build(replace(recipe, data=section, model=model), classes)


def start(task: DetectionTask):
    (report,) = load_start(
        task.network,
        task.recipe.model,
        adapt=task.adapt_published,
        heads=task.heads,
        classes=task.classes,
        together=task.parts,
        choose=task.choose_outputs,
    )
    return report


def spell(names: list[str]) -> Tensor:
    return torch.tensor([code for name in names for code in [*map(ord, name), -1]])


def official(
    file: Path, outputs: int, names: list[str] | None = None, *, without: str = "nothing"
) -> dict[str, Tensor]:
    """Save a detector as the official code does: wrapped, with counters, and the names of its classes spelt."""
    network = detector([f"output {number}" for number in range(outputs)]).network
    state = {name: torch.randn_like(each) for name, each in network.state_dict().items() if without not in name}
    for name in state:
        if name.endswith("running_var") or name == "backbone.bn1.weight":
            state[name] = state[name].abs() + 1
    extra = {"backbone.bn1.num_batches_tracked": torch.tensor(9)}
    extra |= {} if names is None else {"_classes_": spell(names)}
    torch.save({"model": state | extra}, file)
    return state


def rows_kept(task: DetectionTask, state: dict[str, Tensor]) -> list[int] | None:
    """For each class the row of the file that all heads have for it; None where no head has rows of the file."""
    found = []
    own = task.network.state_dict()
    for name in (f"{head}.weight" for head in task.heads[:2]):
        pairs = [[torch.equal(ours, theirs) for theirs in state[name]] for ours in own[name]]
        found.append([pair.index(True) if True in pair else None for pair in pairs])
    table = [[torch.equal(ours, theirs) for theirs in state["denoising_generator.label_encoder.weight"]]
             for ours in own["denoising_generator.label_encoder.weight"]]  # fmt: skip
    found.append([pair.index(True) if True in pair else None for pair in table])
    assert found[0] == found[1] == found[2]
    return None if set(found[0]) == {None} else found[0]


class TestOfficialFiles:
    def test_item_14_a_whole_resnet_50_file_loads_with_no_missing_keys(self, tmp_path):
        recipe = load_recipe("relation_detr/resnet50", runnable=False)
        with torch.device("meta"):
            task = build(recipe, [f"category {number}" for number in range(91)])
        own = task.network.state_dict()
        assert len(own) == 595
        state = {name: torch.ones(()).expand(tensor.shape) for name, tensor in own.items()}  # a number for all of them
        norms = [name.removesuffix("running_mean") for name in own if name.endswith("running_mean")]
        counters = {f"{name}num_batches_tracked": torch.tensor(1) for name in norms}
        torch.save({"model": state | counters | {"_classes_": spell(["none"] * 91)}}, tmp_path / "official.pth")
        weights = read_weights(tmp_path / "official.pth")
        report, loaded = match_weights(task.network, weights, adapt=task.adapt_published, heads=task.heads,
                                       min_matched_share=1.0)  # fmt: skip
        assert len(report.matched) == 595
        assert not report.missing + report.reinitialised + report.unexpected
        assert loaded.keys() == own.keys()

    def test_item_14_names_round_trip_through_the_official_layout(self, tmp_path):
        state = official(tmp_path / "official.pth", 3, ["none", "circle", "square"])
        task = detector(["none", "circle", "square"], checkpoint=str(tmp_path / "official.pth"))
        report = start(task)
        assert all(torch.equal(tensor, state[name]) for name, tensor in task.network.state_dict().items())
        assert report.matched_share == 1

    def test_a_file_made_for_inference_loads_and_says_what_starts_anew(self, tmp_path):
        official(tmp_path / "official.pth", 3, without="hybrid")
        task = detector(["a", "b", "c"], checkpoint=str(tmp_path / "official.pth"))
        report = start(task)
        assert "no hybrid queries" in report.summary()
        assert "transformer.hybrid_tgt_embed.weight" in report.fresh
        assert report.matched_share == 1

    def test_a_detector_without_hybrid_queries_needs_none_and_names_what_it_skips(self, tmp_path):
        official(tmp_path / "official.pth", 3)
        task = detector(["a", "b", "c"], checkpoint=str(tmp_path / "official.pth"))
        args = task.recipe.model.args | {"hybrid_queries": 0}
        task = build(replace(task.recipe, model=replace(task.recipe.model, args=args)), ["a", "b", "c"])
        report = start(task)
        assert report.matched_share == 1
        assert {name.split(".")[1] for name in report.unexpected} == {
            "hybrid_tgt_embed",
            "hybrid_class_head",
            "hybrid_bbox_head",
        }

    def test_other_classes_start_the_heads_and_the_label_table_anew_and_keep_the_rest(self, tmp_path):
        official(tmp_path / "official.pth", 5)
        task = detector(["a", "b"], checkpoint=str(tmp_path / "official.pth"))
        report = start(task)
        heads = {name for name in task.network.state_dict() if name.startswith(task.heads)}
        assert set(report.reinitialised) == heads
        assert "denoising_generator.label_encoder.weight" in heads
        assert report.matched_share == 1
        assert "fresh head" in report.summary()


class TestCocoOutputs:
    def test_the_91_outputs_meet_80_classes_by_category_id(self, tmp_path):
        state = official(tmp_path / "official.pth", 91)
        task = detector(COCO, ids=list(NAMES), checkpoint=str(tmp_path / "official.pth"))
        report = start(task)
        assert rows_kept(task, state) == list(NAMES)
        assert "keep 80 of 91 outputs" in report.summary()
        assert "number them otherwise" not in report.summary()

    def test_names_decide_where_annotations_number_them_otherwise(self, tmp_path):
        state = official(tmp_path / "official.pth", 91)
        task = detector(["Zebra", "hair_drier", "tv"], ids=[1, 2, 3], checkpoint=str(tmp_path / "official.pth"))
        report = start(task)
        assert rows_kept(task, state) == [24, 89, 72]
        assert "number them otherwise" in report.summary()

    def test_ids_alone_never_carry_an_output_over(self, tmp_path):
        state = official(tmp_path / "official.pth", 91)
        task = detector(["crack", "dent", "rust"], ids=[1, 2, 3], checkpoint=str(tmp_path / "official.pth"))
        report = start(task)
        assert rows_kept(task, state) is None
        assert "start anew" in report.summary()
        assert "crack" in report.summary()

    def test_one_class_that_coco_does_not_have_starts_all_anew(self, tmp_path):
        state = official(tmp_path / "official.pth", 91)
        task = detector(["person", "crack"], ids=[1, 2], checkpoint=str(tmp_path / "official.pth"))
        assert "crack" in start(task).summary()
        assert rows_kept(task, state) is None

    def test_91_other_classes_do_not_inherit_coco_s_outputs(self, tmp_path):
        state = official(tmp_path / "official.pth", 91)
        task = detector([f"part {number}" for number in range(91)], checkpoint=str(tmp_path / "official.pth"))
        report = start(task)
        assert rows_kept(task, state) is None
        assert "denoising_generator.label_encoder.weight" in report.reinitialised

    def test_the_names_in_the_file_count_before_coco_s(self, tmp_path):
        names = ["none", "crack", "person"]  # of 91 outputs that the user's own training left at that number
        state = official(tmp_path / "official.pth", 91, names)
        task = detector(["person", "crack"], checkpoint=str(tmp_path / "official.pth"))
        start(task)
        assert rows_kept(task, state) == [2, 1]

    def test_the_table_has_80_categories(self):
        assert len(NAMES) == len(set(COCO)) == 80
        assert (NAMES[1], NAMES[12 + 1], NAMES[90]) == ("person", "stop sign", "toothbrush")
        assert not {12, 26, 29, 30, 45, 66, 68, 69, 71, 83} & NAMES.keys()


class TestOwnClasses:
    def test_fewer_of_the_same_names_keep_their_outputs(self, tmp_path):
        state = official(tmp_path / "official.pth", 4, ["none", "circle", "square", "triangle"])
        task = detector(["triangle", "circle"], checkpoint=str(tmp_path / "official.pth"))
        start(task)
        assert rows_kept(task, state) == [3, 1]

    def test_as_many_in_another_order_are_put_in_ours(self, tmp_path):
        state = official(tmp_path / "official.pth", 2, ["circle", "square"])
        task = detector(["square", "circle"], checkpoint=str(tmp_path / "official.pth"))
        report = start(task)
        assert rows_kept(task, state) == [1, 0]
        assert "another order" in report.head


class TestOtherDetectors:
    def idea(self, folder: Path) -> tuple[str, dict[str, Tensor]]:
        """A detector under the names of DINO's authors."""
        state = official(folder / "own.pth", 3)
        theirs = {}
        for name, tensor in state.items():
            if name.startswith("backbone."):
                theirs[name.replace("backbone.", "backbone.0.body.")] = tensor
            elif name.startswith("transformer.encoder.layers.") or name.startswith("transformer.decoder.layers."):
                theirs[name] = tensor
        theirs["transformer.level_embed"] = state["transformer.level_embeds"]
        theirs |= {"label_enc.weight": torch.zeros(92, 32), "input_proj.0.0.weight": torch.zeros(32, 16, 1, 1)}
        theirs |= {"input_proj.0.0.bias": torch.zeros(32), "class_embed.0.weight": torch.zeros(91, 32)}
        torch.save({"model": theirs}, folder / "dino.pth")
        return str(folder / "dino.pth"), state

    def test_backbone_and_encoder_start_from_one_file_part_by_part(self, tmp_path):
        file, state = self.idea(tmp_path)
        task = detector(["a", "b"], checkpoint={"backbone": file, "encoder": file})
        reports = load_start(task.network, task.recipe.model, adapt=task.adapt_published, heads=task.heads,
                             classes=task.classes, together=task.parts, choose=task.choose_outputs)  # fmt: skip
        assert [(report.part, report.matched_share) for report in reports] == [("backbone", 1), ("encoder", 1)]
        own = task.network.state_dict()
        loaded = [name for name in own if torch.equal(own[name], state.get(name, torch.tensor(0)))]
        assert "transformer.level_embeds" in loaded
        assert "transformer.encoder.layers.0.self_attn.sampling_offsets.weight" in loaded
        assert {name for name in own if name.startswith("backbone.")} <= set(loaded)
        assert "transformer.decoder.layers.0.linear1.weight" not in loaded
        assert "fusion of memory" in reports[1].summary()

    @pytest.mark.parametrize(
        ("checkpoint", "remedy"),
        [
            (lambda file: file, "encoder: FILE"),
            (lambda file: {"neck": file}, "input_proj.0.0.bias"),
        ],
        ids=["whole", "a neck with biases"],
    )
    def test_what_does_not_fit_is_refused_with_the_remedy(self, checkpoint, remedy, tmp_path):
        file, _ = self.idea(tmp_path)
        with pytest.raises(UserError) as error:
            start(detector(["a", "b"], checkpoint=checkpoint(file)))
        assert remedy in str(error.value)
        assert "dino.pth" in str(error.value)


class TestRandomStart:
    def task(self, checkpoint: object = None, fresh: tuple[str, ...] = ()) -> DetectionTask:
        recipe = load_recipe("relation_detr/shapes", ["model.args={backbone: resnet18}"], smoke=True)
        model = replace(recipe.model, args={"backbone": "resnet18"}, checkpoint=checkpoint, fresh=list(fresh))
        with torch.device("meta"):
            return build(replace(recipe, model=model), ["a"])

    def test_a_large_network_and_few_boxes_are_refused_with_the_remedies(self):
        with pytest.raises(UserError) as error:
            self.task().check_start([], 2_999)
        for remedy in ("model.checkpoint", "backbone: FILE", "model.fresh=['*']", "2,999 boxes"):
            assert remedy in str(error.value)

    def test_enough_boxes_or_the_wish_for_it_allow_it(self):
        self.task().check_start([], 3_000)
        self.task(fresh=("*",)).check_start([], 10)

    def test_what_is_frozen_comes_from_a_file_or_is_asked_to_be_random(self):
        task, asked = self.task(), self.task(fresh=("*",))
        for network in (task.network, asked.network):
            freeze(network, ["backbone.conv1.*"])
        asked.check_start([], 10)
        with pytest.raises(UserError) as error:
            task.check_start([], 100_000)
        for remedy in ("model.freeze=[]", "backbone: FILE", "backbone.conv1.weight"):
            assert remedy in str(error.value)

    def test_a_small_network_may_start_at_random(self):
        detector(["a"]).check_start([], 10)

    def test_a_backbone_from_a_file_counts(self, tmp_path):
        task = self.task()
        state = {name: torch.ones(()).expand(each.shape) for name, each in task.network.backbone.state_dict().items()}
        torch.save(state, tmp_path / "backbone.pth")
        task = self.task({"backbone": str(tmp_path / "backbone.pth")})
        report, _ = match_weights(
            task.network.backbone,
            read_weights(tmp_path / "backbone.pth"),
            adapt=task.adapt_published,
            part="backbone",
            min_matched_share=0.9,
        )
        freeze(task.network, ["backbone.conv1.*", "transformer.encoder.*"])
        whole = replace(
            report,
            part="encoder",
            entries=[
                replace(report.entries[0], name=name.removeprefix("transformer."), outcome="matched")
                for name in task.network.state_dict()
                if name.startswith("transformer.encoder.")
            ],
        )
        task.check_start([report, whole], 10)
        with pytest.raises(UserError, match="backbone"):
            task.check_start([replace(report, part="transformer.encoder")], 10)


def test_the_groups_of_the_released_optimiser_are_the_recipe_s():
    """Fixture e lists the groups of a network with other backbone and neck; what each rule says of it must agree."""
    listed = json.loads((GOLDEN / "e_full_model.json").read_text())["values"]["optimizer_groups"]
    recipe = load_recipe("relation_detr/resnet50", smoke=True)
    network = build(recipe, ["a", "b"]).network
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = build_optimizer(network, replace(recipe.optim, lr_reference_batch=None), effective_batch=2).param_groups
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    expected = {name: (group["lr"], group["weight_decay"]) for group in listed.values() for name in group["params"]}
    shared = [name for name in expected if name in found]
    assert len(shared) > 60
    assert {"neck.convs.0.1.weight", "transformer.encoder.memory_fusion.3.weight", "neck.convs.0.1.bias"} <= {*shared}
    for name in shared:
        assert found[name] == pytest.approx(expected[name]), name
    backbone = {name: settings for name, settings in found.items() if name.startswith("backbone.")}
    assert {*backbone.values()} == {(1e-5, 1e-4)}  # convolutions alone are trained there


@pytest.mark.parametrize("name", ["resnet50", "swin_large", "convnext_large", "vit_small_droppos"])
@pytest.mark.parametrize("start", ["published.pth", "{backbone: a.pth, encoder: b.pth}"])
def test_a_recipe_takes_a_whole_file_or_parts(name, start):
    recipe = load_recipe(f"relation_detr/{name}", [f"model.checkpoint={start}", "data.root=."], runnable=False)
    assert [*recipe.model.start] in ([""], ["backbone", "encoder"])
