"""A grounding run as its users start it: from a DETR and the folder of a BERT, on annotations as REFER has them."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from models.text import BertSizes, build_bert
from vision_train.data.phrases.tokens import learn_vocabulary, tokenizer_of
from vision_train.data.toy.refer_folder import write_refer
from vision_train.data.toy.referring import referring
from vision_train.recipe import load_recipe
from vision_train.run.dry_run import dry_run
from vision_train.run.phase import build_task

RECIPE = "actress/refcoco_transvg"


def write_detr(branch: nn.Module, file: Path) -> None:
    """Write the weights of a visual branch as DETR's code names them, with a decoder and heads beside it."""
    state = {re.sub(r"^backbone\.", "backbone.0.body.", name): each for name, each in branch.state_dict().items()}
    decoder = {name.replace("encoder", "decoder"): each for name, each in state.items() if "encoder" in name}
    heads = {"class_embed.weight": torch.randn(92, 16), "query_embed.weight": torch.randn(100, 16)}
    torch.save({"model": state | decoder | heads}, file)


def write_bert(folder: Path, texts: list[str]) -> None:
    """Write random weights of a BERT as hubs keep them, with a pooler, its configuration and its words."""
    folder.mkdir()
    tokenizer = tokenizer_of(learn_vocabulary(texts))
    tokenizer.save(folder)
    sizes = BertSizes(len(tokenizer.vocabulary), 16, 1, 2, 16)
    state = {f"bert.{name}": each for name, each in build_bert(sizes).state_dict().items()}
    save_file(state | {"bert.pooler.dense.bias": torch.randn(16)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **asdict(sizes)}))


def test_published_weights_of_both_parts_fill_the_network_that_learns_from_the_rest_of_a_refer_folder(tmp_path):
    scenes = [[each for each in referring() if each.scene.split == split] for split in ("train", "val", "testA")]
    chosen = [each for of_split, count in zip(scenes, (12, 4, 4), strict=True) for each in of_split[:count]]
    write_refer(chosen, tmp_path / "refcoco")
    write_detr(build_task(load_recipe(RECIPE, smoke=True), []).network.visual, tmp_path / "detr.pth")
    write_bert(tmp_path / "bert", [said.text for each in chosen for said in each.expressions])
    overrides = [
        *("data.source=phrases", f"data.root={tmp_path / 'refcoco'}", "data.share=0.5"),
        *("semi.burn_in=0.5", "trainer.max_epochs=2"),  # such weights know no expressions, so nothing asks them first
        f"model.checkpoint={{visual: {tmp_path / 'detr.pth'}, text: {tmp_path / 'bert'}}}",
    ]
    told = dry_run(load_recipe(RECIPE, overrides, smoke=True))
    for words in (
        *(
            "phase burn-in",
            "phase fit",
            "12 train, 8 val, 8 test",
            "12 unlabelled",
            "every parameter receives a gradient",
        ),
        *("detr.pth: fills 100 % of the part `visual`", "model.safetensors: fills 100 % of the part `text`"),
    ):
        assert words in told, told
