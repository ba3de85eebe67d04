"""Texts become word pieces as the official code has them; what is no tokenizer is refused by name.

Items are those of the specification of grounding.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vision_train.data.phrases.tokens import SPECIAL, learn_vocabulary, read_tokenizer, tokenizer_of
from vision_train.errors import UserError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "transvg" / "tokens.json").read_text())
TEXTS = ["red circle", "the small blue square", "leftmost circle", "the red square"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the vocabulary of the fixture."""
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in GOLDEN["vocab"]))
    return tmp_path


@pytest.mark.parametrize("row", GOLDEN["rows"], ids=lambda row: f"{row['text'][:12]}-{row['max_len']}")
def test_item_1_tokens_equal_those_of_the_official_code(row, folder: Path):
    for tokenizer in (read_tokenizer(folder), tokenizer_of(GOLDEN["vocab"])):
        ids, padding = tokenizer.encode([row["text"]], row["max_len"])
        assert ids.tolist() == [row["input_ids"]]
        assert (~padding).int().tolist() == [row["input_mask"]]
        count = sum(row["input_mask"])
        assert [tokenizer.vocabulary[piece] for piece in ids[0, :count].tolist()] == row["tokens"]


def test_texts_of_a_batch_are_padded_alike_and_cut():
    tokenizer = tokenizer_of(learn_vocabulary(TEXTS))
    ids, padding = tokenizer.encode(["red circle", "red " * 500, ""], 6)
    assert ids.shape == padding.shape == (3, 6)
    assert (ids.dtype, padding.dtype) == (torch.int64, torch.bool)
    assert padding.tolist() == [[False] * 4 + [True] * 2, [False] * 6, [False] * 2 + [True] * 4]
    assert ids[:, 0].tolist() == [2, 2, 2]
    assert (ids[1, -1].item(), ids[2, 1].item()) == (3, 3)


def test_nothing_in_a_text_has_a_meaning_of_its_own(folder: Path):
    tokenizer = tokenizer_of(learn_vocabulary(["a ||| b [SEP] [PAD]"]))
    for text in ("a ||| b", "[SEP] [PAD]"):
        pieces = tokenizer.pieces(text)
        assert len(pieces) > 2
        assert min(pieces) >= len(SPECIAL)
    tokenizer._tokenizer.add_special_tokens(["[SEP]"])
    tokenizer._tokenizer.save(str(folder / "tokenizer.json"))
    assert min(read_tokenizer(folder).pieces("a [SEP] b")) >= len(SPECIAL)


def test_a_vocabulary_of_our_own_has_all_words_and_spells_what_it_has_not():
    vocabulary = learn_vocabulary(TEXTS)
    assert vocabulary[:5] == [*SPECIAL]
    assert {"red", "circle", "leftmost", "the", "r", "##d"} <= {*vocabulary}
    assert vocabulary.index("circle") < vocabulary.index("blue")  # said twice, and once
    tokenizer = tokenizer_of(vocabulary)
    assert tokenizer.unknown("The RED circle") == (0, 3)
    assert tokenizer.unknown("cube") == (0, 4)  # c ##u ##b ##e
    assert tokenizer.unknown("xylophone circle") == (1, 2)
    assert len(learn_vocabulary(TEXTS, most=42)) < len(vocabulary)


@pytest.mark.slow
def test_a_vocabulary_is_the_same_in_every_process():
    code = (
        "from vision_train.data.phrases.tokens import learn_vocabulary as v;"
        f"print(v({TEXTS!r} + ['b a', 'a b', 'ç ß 左 שלום']))"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1


def test_every_script_is_read():
    texts = ["הכלב משמאל", "الكلب على اليسار", "左边的红色圆圈", "собака слева", "собака"]
    tokenizer = tokenizer_of(learn_vocabulary(texts))
    assert [tokenizer.unknown(text)[0] for text in texts] == [0] * 5
    assert len(tokenizer.pieces("左边的红色圆圈")) == 7  # each sign is a word
    assert tokenizer.unknown("犬") == (1, 1)
    assert tokenizer.pieces(texts[0])[0] == tokenizer.vocabulary.index("הכלב")  # in the order of reading


def test_a_saved_folder_is_read_again_and_by_transformers(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoTokenizer

    tokenizer = tokenizer_of(learn_vocabulary(TEXTS))
    tokenizer.save(tmp_path / "made")
    again = read_tokenizer(tmp_path / "made")
    assert again.vocabulary == tokenizer.vocabulary
    theirs = AutoTokenizer.from_pretrained(tmp_path / "made")
    for text in (*TEXTS, "The Cube, left of it"):
        assert (
            theirs(text)["input_ids"] == tokenizer.encode([text], 4 + len(text))[0][0, : len(theirs(text)[0])].tolist()
        )


def test_a_tokenizer_json_gives_the_same_pieces(folder: Path):
    plain = read_tokenizer(folder)
    plain._tokenizer.enable_padding(length=30)
    plain._tokenizer.enable_truncation(3)
    plain._tokenizer.save(str(folder / "tokenizer.json"))
    whole = read_tokenizer(folder)
    assert [whole.encode([row["text"]], row["max_len"])[0].tolist()[0] for row in GOLDEN["rows"]] == [
        row["input_ids"] for row in GOLDEN["rows"]
    ]


def test_a_tokenizer_travels_to_workers(in_a_worker):
    tokenizer = tokenizer_of(learn_vocabulary(TEXTS))
    travelled = in_a_worker(tokenizer)
    assert travelled.pieces("the red circle") == tokenizer.pieces("the red circle")


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ({}, ("vocab.txt", "tokenizer.json")),
        ({"vocab.txt": ""}, ("[PAD]", "[CLS]")),
        ({"vocab.txt": "[PAD]\n[UNK]\n[CLS]\nred\n"}, ("[SEP]",)),
        ({"vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\nred\nred\n"}, ("red", "more than once")),
        ({"vocab.txt": b"\xff\xfe\x00"}, ("vocab.txt", "cannot be read")),
        ({"vocab.txt": "[PAD]\n", "tokenizer_config.json": "{"}, ("tokenizer_config.json", "damaged")),
        ({"vocab.txt": "[PAD]\n", "tokenizer_config.json": '{"do_lower_case": false}'}, ("uncased",)),
        ({"tokenizer.json": "[]"}, ("tokenizer.json", "damaged")),
        ({"tokenizer.json": '{"model": {"type": "BPE"}}'}, ("BPE", "WordPiece")),
        ({"tokenizer.json": '{"model": "x"}'}, ("tokenizer.json", "damaged")),
        ({"tokenizer.json": '{"model": {"type": "WordPiece"}, "normalizer": "x"}'}, ("tokenizer.json", "damaged")),
        ({"tokenizer.json": '{"model": {"type": "WordPiece"}}'}, ("tokenizer.json", "damaged")),
        ({"tokenizer.json": '{"model": {"type": "WordPiece"}, "normalizer": {"lowercase": false}}'}, ("uncased",)),
    ],
)
def test_what_is_no_tokenizer_is_refused(files, parts, tmp_path: Path):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as refused:
        read_tokenizer(tmp_path)
    for part in parts:
        assert part in str(refused.value)


def test_a_name_of_the_hub_is_not_downloaded(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data\.tokenizer=bert-base-uncased.*Nothing is downloaded"):
        read_tokenizer(Path("bert-base-uncased"))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"vision-train\[text\]"):
        learn_vocabulary(TEXTS)
