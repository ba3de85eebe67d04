"""Which outputs of class heads are kept, by what is said of their classes."""

import torch
from torch import Tensor

from models.adapted import Adapted
from vision_train.tasks.detection.outputs import Wanted, choose_outputs

HEADS = ("transformer.encoder_class_head", "denoising_generator.label_encoder")


def weights(outputs: int, **settings) -> Adapted:
    state: dict[str, Tensor] = {
        f"{HEADS[0]}.weight": torch.arange(outputs).float()[:, None].expand(-1, 3),
        f"{HEADS[0]}.bias": torch.arange(outputs).float(),
        f"{HEADS[1]}.weight": torch.arange(outputs).float()[:, None].expand(-1, 3),
        "transformer.enc_output.weight": torch.ones(3, 3),
    }
    return Adapted(state, state, **settings)


def rows(chosen: Adapted) -> list[list[int]]:
    return [chosen[f"{HEADS[0]}.bias"].int().tolist(), chosen[f"{HEADS[1]}.weight"][:, 0].int().tolist()]


def wanted(*classes: str) -> Wanted:
    return Wanted(classes, [*range(1, len(classes) + 1)])


def test_what_a_run_says_of_its_classes_chooses_rows():
    chosen = choose_outputs(weights(3), ["cat", "dog", "cow"], wanted("cow", "cat"), HEADS)
    assert rows(chosen) == [[2, 0], [2, 0]]
    assert chosen.classes == ("cow", "cat")
    assert torch.equal(chosen["transformer.enc_output.weight"], torch.ones(3, 3))


def test_a_run_of_91_classes_of_its_own_has_none_of_coco_s():
    theirs = [f"part {number}" for number in range(91)]
    chosen = choose_outputs(weights(91), theirs, wanted("person", "car"), HEADS)
    assert not [name for name in chosen if name.startswith(HEADS)]
    assert "does not know person, car" in chosen.notes[-1]
    assert "COCO" not in chosen.notes[-1]


def test_two_classes_of_one_name_are_not_guessed():
    chosen = choose_outputs(weights(3), ["cat", "Cat", "dog"], wanted("CAT", "dog"), HEADS)
    assert not [name for name in chosen if name.startswith(HEADS)]


def test_an_exact_name_counts_before_a_spelling_of_it():
    assert rows(choose_outputs(weights(3), ["Cat", "cat", "dog"], wanted("cat", "dog"), HEADS))[0] == [1, 2]


def test_as_many_classes_are_left_to_the_engine():
    given = weights(2)
    assert choose_outputs(given, ["a", "b"], wanted("b", "a"), HEADS) is given


def test_heads_of_several_counts_are_left_as_they_are():
    given = weights(91)
    given[f"{HEADS[1]}.weight"] = torch.zeros(92, 3)
    assert choose_outputs(given, None, wanted("person"), HEADS) is given


def test_names_that_are_more_than_the_outputs_say_nothing():
    given = weights(91, classes=["x"] * 100)
    assert choose_outputs(given, None, wanted("person"), HEADS) is given


def test_a_part_without_heads_is_left_as_it_is():
    given = Adapted({"conv1.weight": torch.ones(1)}, {})
    assert choose_outputs(given, None, wanted("person"), HEADS) is given
