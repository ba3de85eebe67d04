"""Which of several networks in a file is taken: by its role, in containers and below prefixes alike."""

import pytest
import torch
from torch import nn

from vision_train.checkpoints import load_start, read_weights
from vision_train.errors import UserError
from vision_train.recipe.sections import Model

WANTED = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}
OTHER = {name: tensor + 1 for name, tensor in WANTED.items()}
DEEP, OTHER_DEEP = WANTED | {"last.weight": torch.ones(3)}, OTHER | {"last.weight": torch.zeros(3)}


def below(prefix, state):
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def nested(place, state):
    for name in reversed(place.split(".")):
        state = {name: state}
    return state


def same(state, expected=WANTED):
    return state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in expected)


PAIRS = [
    ("teacher", "student"),
    ("model_ema", "model"),
    ("ema_model", "model"),
    ("state_dict_ema", "state_dict"),
    ("params_ema", "params"),
    ("target_encoder", "encoder"),
    ("target", "online"),
    ("momentum_encoder", "base_encoder"),
    ("encoder_k", "encoder_q"),
    ("swa_model", "model"),
]


class TestTheRule:
    @pytest.mark.parametrize(("wanted", "other"), PAIRS)
    @pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
    def test_containers(self, tmp_path, wanted, other, first):
        content = {wanted: WANTED, other: OTHER} if first else {other: OTHER, wanted: WANTED}
        torch.save(content | {"epoch": 3}, tmp_path / "w.pth")
        weights = read_weights(tmp_path / "w.pth")
        assert same(weights.state)
        assert weights.container == wanted
        assert f"not those of `{other}` (model.checkpoint_key names another)" in weights.source

    @pytest.mark.parametrize(("wanted", "other"), [pair for pair in PAIRS if "state_dict" not in pair])
    @pytest.mark.parametrize("outer", ["", "model.", "state_dict.", "network."])
    @pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
    def test_prefixes_of_one_flat_state_dict(self, tmp_path, wanted, other, outer, first):
        parts = [below(f"module.{wanted}.body", WANTED), below(f"module.{other}.body", OTHER)]
        state = (parts[0] | parts[1]) if first else (parts[1] | parts[0])
        torch.save(nested(outer.rstrip("."), state) if outer else state, tmp_path / "w.pth")
        ends = {name.rpartition("body.")[2]: tensor for name, tensor in read_weights(tmp_path / "w.pth").state.items()}
        assert same(ends)

    def test_containers_within_containers(self, tmp_path):
        torch.save({"network": {"online": OTHER, "target": WANTED}}, tmp_path / "w.pth")
        weights = read_weights(tmp_path / "w.pth")
        assert same(weights.state)
        assert weights.source.startswith("the teacher's weights, `network.target` of")

    def test_averaged_before_teacher(self, tmp_path):
        torch.save({"teacher": OTHER, "student": OTHER, "ema": WANTED}, tmp_path / "w.pth")
        assert same(read_weights(tmp_path / "w.pth").state)

    def test_suffixes_of_parts(self, tmp_path):
        state = below("backbone", OTHER) | below("backbone_momentum", WANTED)
        torch.save(state | below("head", {"weight": torch.ones(3)}), tmp_path / "w.pth")
        assert same(read_weights(tmp_path / "w.pth").state)

    def test_a_part_that_sounds_like_a_role_is_a_part(self, tmp_path):
        state = below("body", WANTED) | below(
            "target_generator", {"code.weight": torch.ones(4, 4), "scale": torch.ones(7)}
        )
        torch.save(state, tmp_path / "w.pth")
        assert read_weights(tmp_path / "w.pth").state.keys() == state.keys()

    def test_one_network_below_the_name_of_a_role(self, tmp_path):
        torch.save({"teacher": below("backbone", WANTED)}, tmp_path / "w.pth")
        assert same(read_weights(tmp_path / "w.pth").state)

    @pytest.mark.parametrize(
        "content",
        [
            {"net_a": OTHER, "net_b": WANTED},
            {"model": OTHER, "state_dict": WANTED},
            {"ema_slow": OTHER, "ema_fast": WANTED, "model": OTHER},
        ],
    )
    def test_without_a_preference_it_asks(self, tmp_path, content):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"w\.pth: holds several networks .*model\.checkpoint_key="):
            read_weights(tmp_path / "w.pth")

    def test_equal_networks_are_one(self, tmp_path):
        torch.save({"model": WANTED, "state_dict": dict(WANTED)}, tmp_path / "w.pth")
        assert same(read_weights(tmp_path / "w.pth").state)


class TestTwinsByLetter:
    """Names that differ in a last letter are a pair where the same network stands below both."""

    @pytest.mark.parametrize(
        ("wanted", "other"),
        [("visual_m", "visual"), ("net_k", "net_q"), ("net_t", "net_s"), ("text.part_m", "text.part")],
    )
    @pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
    def test_the_teacher_is_taken(self, tmp_path, wanted, other, first):
        parts = [below(wanted, DEEP), below(other, OTHER_DEEP)]
        state = (parts[0] | parts[1]) if first else (parts[1] | parts[0])
        torch.save({"model": state | {"temperature": torch.ones(())}}, tmp_path / "w.pth")
        weights = read_weights(tmp_path / "w.pth")
        stem = wanted.rpartition("_")[0].rpartition(".")[2]
        assert same(weights.state, below(stem, DEEP))
        assert weights.source.startswith("the teacher's weights, `model.")

    def test_parts_of_attention_are_none(self, tmp_path):
        state = {f"{place}attn.to_{kind}.weight": torch.ones(2, 2) for place in ("", "blocks.0.") for kind in "qkv"}
        state |= {f"proj_{kind}.{name}": torch.ones(2) for kind in "qk" for name in ("weight", "bias")}
        torch.save(state, tmp_path / "w.pth")
        assert read_weights(tmp_path / "w.pth").state.keys() == state.keys()


class TestWhatIsNoNetwork:
    """Containers of the same names that an optimiser, a schedule or an average that never began left behind."""

    @pytest.mark.parametrize("place", ["momentum_buffer", "exp_avg", "velocity", "ema_grad", "optimizer_ema"])
    def test_memory_of_an_optimiser(self, tmp_path, place):
        torch.save({place: OTHER, "model": WANTED}, tmp_path / "w.pth")
        assert same(read_weights(tmp_path / "w.pth").state)

    def test_momentum_alone_may_be_either(self, tmp_path):
        torch.save({"momentum": OTHER, "model": WANTED}, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"several networks.*`momentum`.*model\.checkpoint_key=model"):
            read_weights(tmp_path / "w.pth")

    def test_role_without_a_network(self, tmp_path):
        model = WANTED | below("deeper", WANTED)
        content = {"target": {"mean": torch.ones(3)}, "ema": {"updates": torch.ones(1)}, "model": model}
        torch.save(content, tmp_path / "w.pth")
        assert same(read_weights(tmp_path / "w.pth").state, model)

    @pytest.mark.parametrize("flat", [True, False])
    def test_an_average_that_never_began(self, tmp_path, flat):
        average = {"n_averaged": torch.tensor(0)} | below("module", OTHER)
        content = {"swa_model": average, "model": WANTED}
        if flat:
            content = {"state_dict": below("swa_model", average) | below("model", WANTED)}
        torch.save(content, tmp_path / "w.pth")
        weights = read_weights(tmp_path / "w.pth")
        assert same({name.removeprefix("model."): tensor for name, tensor in weights.state.items()})
        assert "swa" in weights.notes[0]
        assert "n_averaged = 0" in weights.notes[0]
        named = read_weights(tmp_path / "w.pth", "swa_model")
        assert {name.rpartition("layer.")[2] for name in named.state} == {"weight", "bias"}
        assert "never began" in named.notes[0]

    @pytest.mark.parametrize(("updates", "wanted"), [(9, "state_dict"), (0, "current_model_state")])
    def test_averaging_of_lightning(self, tmp_path, updates, wanted):
        other = "current_model_state" if wanted == "state_dict" else "state_dict"
        averaging = {"n_averaged": torch.tensor(updates)}
        content = {"averaging_state": averaging, wanted: below("model", WANTED), other: below("model", OTHER)}
        torch.save(content | {"pytorch-lightning_version": "2.6.0"}, tmp_path / "w.ckpt")
        weights = read_weights(tmp_path / "w.ckpt")
        assert same(weights.state)
        assert weights.container == wanted


class TestTheKey:
    @pytest.mark.parametrize("first", ["student", "teacher"])
    def test_of_a_place_with_several_leaves_it_to_the_rule(self, tmp_path, first):
        second = "teacher" if first == "student" else "student"
        values = {"teacher": WANTED, "student": OTHER}
        torch.save({"state_dict": below(first, values[first]) | below(second, values[second])}, tmp_path / "w.pth")
        assert same(read_weights(tmp_path / "w.pth", "state_dict").state)

    @pytest.mark.parametrize("key", ["student", "model.student"])
    def test_names_a_prefix_or_its_place(self, tmp_path, key):
        torch.save({"model": below("student.body", WANTED) | below("teacher.body", OTHER)}, tmp_path / "w.pth")
        assert same(read_weights(tmp_path / "w.pth", key).state, below("body", WANTED))

    def test_names_a_container(self, tmp_path):
        torch.save({"model": WANTED, "model_ema": OTHER}, tmp_path / "w.pth")
        assert same(read_weights(tmp_path / "w.pth", "model").state)

    def test_names_any_part(self, tmp_path):
        torch.save({"state_dict": below("left.body", WANTED) | below("right.body", OTHER)}, tmp_path / "w.pth")
        assert same(read_weights(tmp_path / "w.pth", "left.body").state)

    def test_names_nothing(self, tmp_path):
        torch.save({"model": WANTED, "model_ema": OTHER}, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"checkpoint_key=teacher names no network .*`model`, `model_ema`"):
            read_weights(tmp_path / "w.pth", "teacher")

    def test_file_by_file(self, tmp_path):
        class Pair(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = (nn.ModuleDict({"layer": nn.Linear(3, 2)}) for _ in range(2))

        torch.save({"student": WANTED, "teacher": OTHER}, tmp_path / "w.pth")
        file, network = str(tmp_path / "w.pth"), Pair()
        model = Model(name="pair", checkpoint={"first": file, "second": file}, checkpoint_key={"first": "student"})
        load_start(network, model, adapt=lambda state, _: dict(state), heads=())
        assert same(network.first.state_dict())
        assert same(network.second.state_dict(), OTHER)

    @pytest.mark.parametrize(
        ("checkpoint", "key", "message"),
        [
            (None, "student", "names no file"),
            ({"a": "w.pth"}, "student", "map the parts"),
            ("w.pth", {"a": "student"}, "give one key"),
            ({"a": "w.pth"}, {"b": "student"}, "no part"),
        ],
    )
    def test_recipe_mistakes(self, checkpoint, key, message):
        problems = dict(Model(name="vit", checkpoint=checkpoint, checkpoint_key=key).problems())
        assert any(name.startswith("checkpoint_key") and message in text for name, text in problems.items())
