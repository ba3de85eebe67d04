"""What a run says of the attention it computes."""

import json
from pathlib import Path

import pytest
import torch

from models.timm_attention import AttentionReceipt, AttentionUse
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.attention import attention_line, attention_table, decide_attention
from vision_train.run.fit import fit
from vision_train.run.inference import load_for_inference
from vision_train.run.phase import build_task, prepare, scan
from vision_train.run.trainer import build_trainer

REFUSED = {"xformers": "it has kernels for CUDA devices only"}


def receipt(*uses: AttentionUse, kept: dict[str, str] | None = None) -> AttentionReceipt:
    return AttentionReceipt("auto", {"Attention": 2}, kept or {}, uses)


def test_the_receipt_stands_in_the_run_and_its_report(tiny, quiet):
    directory = fit(load_recipe(tiny, ["trainer.max_epochs=1"]), run_dir=Path("run"), command=[], console=quiet)
    table = json.loads((directory.artefacts / "fit_attention.json").read_text())
    assert table["rows"] == [["Attention", 2, 12, "no", "sdpa"]]
    assert "model.attention=auto: sdpa (not xformers: it has kernels for CUDA" in table["note"]
    assert "not xformers" in (directory.path / "report.html").read_text()


def test_the_receipt_in_a_line():
    use = AttentionUse("Attention", 12, 64, False, "sdpa", REFUSED)
    biased = AttentionUse("WindowAttention", 2, 32, True, "sdpa", REFUSED)
    assert attention_line(receipt(use, biased)) == "sdpa (not xformers: it has kernels for CUDA devices only)"
    assert attention_line(receipt(AttentionUse("Attention", 12, 64, False, "xformers", {}))) == "xformers"
    assert attention_line(receipt(kept={"XCA": "keeps its own"})) == "XCA keeps its own"
    assert attention_line(receipt()) == "none in this model"


def test_attention_that_is_not_ours_is_a_row_of_its_own():
    table = attention_table(receipt(kept={"XCA": "cannot be routed"}))
    assert table.rows == [["XCA", None, None, None, "its own"]]
    assert table.note == "model.attention=auto: XCA cannot be routed"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("precision", "dtype"), [("32-true", "float32"), ("bf16-mixed", "bfloat16"), ("bf16-true", "bfloat16")]
)
def test_precision_decides_the_dtype(tiny, monkeypatch, device, precision, dtype):
    recipe = load_recipe(tiny, [f"trainer.precision={precision}"])
    task, trainer = build_task(recipe, list("abcdefghij")), build_trainer(recipe, [])
    told = {}
    monkeypatch.setattr(AttentionReceipt, "decided", lambda self, network, **facts: told.update(facts))
    monkeypatch.setattr(type(trainer.strategy), "root_device", torch.device(device))
    decide_attention(task, recipe, trainer)
    assert told == {
        "device": torch.device(device),
        "dtype": getattr(torch, dtype),
        "training": True,
        "compiled": False,
    }


def test_xformers_by_name_without_a_gpu_is_refused_before_anything_is_written(tiny, tmp_path, quiet):
    with pytest.raises(UserError, match=r"model\.attention=xformers: .*CUDA devices only.*`auto` or `sdpa`"):
        prepare(scan(load_recipe(tiny, ["model.attention=xformers"])))
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_a_run_of_a_gpu_machine_is_evaluated_without_xformers_unless_asked(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("extends: mixpro/digits\nmodel: {attention: xformers}\n")
    assert load_for_inference(recipe).model.attention == "auto"
    assert load_for_inference(recipe, ["model.attention=xformers"]).model.attention == "xformers"
    assert load_for_inference(recipe).augment.mixing.maskmix == 0
