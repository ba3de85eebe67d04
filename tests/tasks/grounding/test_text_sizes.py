"""Sizes of the text encoder come from the folder of a BERT; what contradicts its weights is refused."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from models.text import BertSizes, build_bert
from vision_train.data.phrases.tokens import learn_vocabulary, tokenizer_of
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.tasks import settle_network

RECIPE = "studies/actress/refcoco_supervised"
SIZES = {
    **{"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 12},
    **{"max_position_embeddings": 24, "type_vocab_size": 2},
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as hubs keep a BERT: weights, configuration and vocabulary."""
    folder = tmp_path_factory.mktemp("bert")
    vocabulary = tokenizer_of(learn_vocabulary(["red cup"]))
    vocabulary.save(folder)
    sizes = BertSizes(vocab_size=len(vocabulary.vocabulary), **SIZES)
    save_file(build_bert(sizes).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **asdict(sizes)}))
    return folder


def settled(*overrides: str) -> Any:
    return settle_network(load_recipe(RECIPE, overrides, runnable=False)).model.args.get("text")


def test_the_weights_say_the_sizes(bert):
    start = f"model.checkpoint={{text: {bert}}}"
    assert settled(start, f"data.tokenizer={bert}") == SIZES
    file = f"model.checkpoint={{text: {bert / 'model.safetensors'}}}"
    assert settled(file, f"data.tokenizer={bert}", "model.args.text={hidden_size: 8}") == SIZES


def test_without_weights_the_tokenizer_says_them_unless_the_recipe_does(bert):
    assert settled(f"data.tokenizer={bert}") == SIZES
    assert settled(f"data.tokenizer={bert}", "model.args.text={hidden_size: 12}") == {"hidden_size": 12}
    assert settled() is None


def test_sizes_that_the_weights_do_not_have_are_refused_by_name(bert):
    with pytest.raises(UserError) as refused:
        settled(f"model.checkpoint={{text: {bert}}}", f"data.tokenizer={bert}", "model.args.text={hidden_size: 768}")
    for part in ("model.args.text.hidden_size=768", f"model.checkpoint.text={bert}", "hidden_size 8", "leave it out"):
        assert part in str(refused.value)


def test_the_words_that_lie_beside_the_weights_are_taken_and_weights_without_any_are_refused(bert, tmp_path):
    start = "model.checkpoint={{text: {}}}".format
    recipe = settle_network(load_recipe(RECIPE, [start(bert)], runnable=False))
    assert recipe.data.tokenizer == str(bert)
    for file in ("config.json", "model.safetensors"):
        shutil.copy(bert / file, tmp_path)
    with pytest.raises(UserError, match=r"model\.checkpoint\.text=.*vocab\.txt.*data\.tokenizer"):
        settled(start(tmp_path))


def test_the_folder_of_another_network_is_refused(bert, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    with pytest.raises(
        UserError, match=r"data\.tokenizer=.*config\.json says model_type: is 'roberta'.*folder of a BERT"
    ):
        settled(f"data.tokenizer={tmp_path}")


def test_a_folder_without_vocabulary_is_refused(bert, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((bert / name).read_bytes())
    recipe = load_recipe(RECIPE, ["data.source=referring", f"data.tokenizer={tmp_path}"], runnable=False)
    with pytest.raises(UserError, match=r"data\.tokenizer=.*holds neither vocab\.txt nor tokenizer\.json"):
        recipe.kind.load().build(settle_network(recipe))


def test_other_tasks_have_nothing_to_settle():
    recipe = load_recipe("quickstart")
    assert settle_network(recipe) is recipe
