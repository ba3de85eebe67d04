"""What files beside weights, and weights themselves, say of pixels and classes."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from vision_train.checkpoints import Provenance, provenance_of, read_weights
from vision_train.checkpoints.conventions import (
    said_by_open_clip,
    said_by_processor,
    said_by_timm,
    said_by_transformers,
    said_in_run,
)
from vision_train.errors import UserError

HALF = (0.5, 0.5, 0.5)
STATE = {"head.weight": torch.ones(2, 4), "head.bias": torch.zeros(2)}


def told(folder: Path, weights: str = "model.pth", content: Any = None, **files: Any) -> Provenance:
    torch.save(STATE if content is None else content, folder / weights)
    for name, values in files.items():
        (folder / f"{name}.json").write_text(values if isinstance(values, str) else json.dumps(values))
    return provenance_of(read_weights(folder / weights), folder / weights)


class TestTimm:
    def test_todays_configuration(self) -> None:
        config = {
            "architecture": "vit_tiny_patch16_224",
            "label_names": ["cat", "dog"],
            "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 384, 384], "crop_pct": 1.0},
        }
        said = said_by_timm(config)
        assert (said["mean"], said["std"], said["image_size"], said["crop_share"]) == (HALF, HALF, 384, 1.0)
        assert (said["classes"], said["architecture"]) == (["cat", "dog"], "vit_tiny_patch16_224")

    def test_the_flat_one_of_earlier_versions(self) -> None:
        flat = {"architecture": "resnet18", "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"}
        said = said_by_timm({**flat, "input_size": [3, 224, 224], "labels": ["a", "b"]})
        assert (said["mean"], said["interpolation"], said["classes"]) == (HALF, "bilinear", ["a", "b"])

    def test_every_published_one_is_understood_or_remarked_on(self) -> None:
        for name in timm.list_pretrained("*vit_*patch*")[::25]:
            published = timm.get_pretrained_cfg(name)
            said = said_by_timm(published.to_dict())
            assert said["mean"] == tuple(published.mean)
            assert "crop_share" in said or said.remarks

    @pytest.mark.parametrize(
        ("values", "share", "remark"),
        [
            ({"crop_pct": 1.0, "crop_mode": "squash"}, "whole", ""),
            ({"crop_pct": 0.9, "crop_mode": "squash"}, None, "squash"),
            ({"crop_pct": 0.9, "crop_mode": "border"}, None, "border"),
            ({"interpolation": "lanczos"}, None, "lanczos"),
        ],
    )
    def test_what_cannot_be_followed_is_a_remark(self, values: dict[str, Any], share: Any, remark: str) -> None:
        said = said_by_timm(values)
        assert said.get("crop_share") == share
        assert remark in " ".join(said.remarks)


class TestTransformers:
    def test_class_names_but_not_their_stand_ins(self) -> None:
        named = {
            "id2label": {"1": "dog", "0": "cat"},
            "architectures": ["ViTForImageClassification"],
            "image_size": 224,
        }
        said = said_by_transformers(named)
        assert (said["classes"], said["image_size"]) == (["cat", "dog"], 224)
        assert said_by_transformers({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}})["classes"] is None
        assert said_by_transformers({"id2label": {"0": "a", "2": "c"}})["classes"] is None

    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            ({"size": {"height": 224, "width": 224}}, (224, "whole")),
            ({"size": 224}, (224, "whole")),
            ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, (224, 0.875)),
            ({"size": {"shortest_edge": 224}, "crop_size": 224, "do_center_crop": True}, (224, 1.0)),
            ({"size": 256, "crop_size": 224, "do_center_crop": False}, (256, "whole")),
            ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 0.875)),
            ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, "whole")),
        ],
    )
    def test_sizes_and_crops(self, size: dict[str, Any], expected: tuple[Any, ...]) -> None:
        said = said_by_processor({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2, **size})
        assert (said["mean"], said["interpolation"]) == (HALF, "bilinear")
        assert (said["image_size"], said["crop_share"]) == expected

    def test_pixels_that_are_not_normalised_or_otherwise_scaled(self) -> None:
        normalised = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        assert said_by_processor({**normalised, "do_normalize": False})["mean"] == (0.0, 0.0, 0.0)
        said = said_by_processor({**normalised, "rescale_factor": 1 / 127.5})
        assert "mean" not in said
        assert "scales pixels" in said.remarks[0]
        assert said_by_processor({"image_processor": normalised})["mean"] == HALF


def test_open_clip_has_defaults_of_its_own() -> None:
    said = said_by_open_clip({"model_cfg": {"vision_cfg": {"image_size": 224}}})
    assert said["mean"] == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert (said["image_size"], said["crop_share"]) == (224, 1.0)
    siglip = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash", "size": [256, 256]}
    said = said_by_open_clip({"preprocess_cfg": siglip})
    assert (said["mean"], said["image_size"], said["crop_share"]) == (HALF, 256, "whole")


def test_a_run_says_what_it_used_and_an_earlier_one_the_whole_image() -> None:
    recipe = {
        "data": {"image_size": 96},
        "augment": {
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4] * 3,
            "eval": {"crop_share": None, "interpolation": "bicubic"},
        },
    }
    said = said_in_run(recipe)
    assert (said["mean"], said["crop_share"], said["image_size"]) == ((0.1, 0.2, 0.3), "whole", 96)
    assert not said_in_run({"data": {"batch_size": 1}, "augment": {}})


class TestBeside:
    def test_the_processor_and_the_configuration_are_read_together(self, tmp_path: Path) -> None:
        found = told(
            tmp_path,
            config={"model_type": "vit", "id2label": {"0": "cat", "1": "dog"}, "image_size": 224},
            preprocessor_config={"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 256},
        )
        assert (found.get("mean"), found.get("image_size"), found.get("classes")) == (HALF, 256, ["cat", "dog"])
        assert found.sources["mean"] == str(tmp_path / "preprocessor_config.json")
        assert found.sources["classes"] == str(tmp_path / "config.json")

    def test_the_file_itself_comes_first(self, tmp_path: Path) -> None:
        content = {"state_dict": STATE, "class_to_idx": {"dog": 0, "cat": 1}}
        found = told(tmp_path, content=content, config={"label_names": ["cat", "dog"]})
        assert found.get("classes") == ["dog", "cat"]
        assert found.sources["classes"] == str(tmp_path / "model.pth")

    @pytest.mark.parametrize("key", ["classes", "class_names", "idx_to_class"])
    def test_names_of_classes_under_the_keys_that_people_use(self, tmp_path: Path, key: str) -> None:
        names = {0: "cat", 1: "dog"} if key == "idx_to_class" else ["cat", "dog"]
        assert told(tmp_path, content={"state_dict": STATE, key: names}).get("classes") == ["cat", "dog"]

    def test_a_configuration_among_weights_of_several_networks_is_nobodys(self, tmp_path: Path) -> None:
        torch.save(STATE, tmp_path / "other.pth")
        config = {"label_names": ["cat", "dog"]}
        assert told(tmp_path, "mine.pth", config=config).get("classes") is None
        assert told(tmp_path, "pytorch_model.bin", config=config).get("classes") == ["cat", "dog"]

    def test_a_damaged_one_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"config\.json: cannot be read .*move it away"):
            told(tmp_path, config="{")

    def test_other_programs_files_say_nothing(self, tmp_path: Path) -> None:
        assert not told(tmp_path, config=["a"], preprocessor_config={"sampling_rate": 16000}).said
