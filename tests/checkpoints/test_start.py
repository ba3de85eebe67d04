"""A file for each of several parts of a network, and tensors that no file need fill."""

from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from torch import nn

from models.adapted import Adapted
from models.vit import adapt_published, build_model
from vision_train.checkpoints import load_start
from vision_train.errors import UserError
from vision_train.recipe.sections import Model

SMALL = {"patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 2}


class Pair(nn.Module):
    """An image encoder and a text encoder beside queries that no file has."""

    def __init__(self) -> None:
        super().__init__()
        self.vision = build_model("vit", num_classes=0, image_size=8, **SMALL)
        self.text = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 8))
        self.queries = nn.Embedding(5, 8)
        for parameter in self.parameters():
            nn.init.normal_(parameter)


def snapshot(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def adapt(state, network):
    return adapt_published(state, network) if hasattr(network, "patch_embed") else dict(state)


def load(network: nn.Module, heads: tuple[str, ...] = (), **options):
    return load_start(network, Model(name="pair", **options), adapt=adapt, heads=heads)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Weights of the two encoders as their authors would publish them, each by itself."""
    source = Pair()
    torch.save(source.vision.state_dict(), tmp_path / "vision.pth")
    torch.save({f"bert.{name}": tensor for name, tensor in source.text.state_dict().items()}, tmp_path / "text.pth")
    torch.save(source.state_dict(), tmp_path / "whole.pth")
    return {part: str(tmp_path / f"{part}.pth") for part in ("vision", "text", "whole")}


class TestParts:
    def test_each_part_is_filled_from_its_own_file(self, files):
        network = Pair()
        before = snapshot(network)
        reports = load(network, checkpoint={part: files[part] for part in ("vision", "text")})
        assert [(report.part, report.matched_share) for report in reports] == [("vision", 1), ("text", 1)]
        for part, prefix in (("vision", ""), ("text", "bert.")):
            theirs = torch.load(files[part], weights_only=True)
            for name, tensor in network.get_submodule(part).state_dict().items():
                assert torch.equal(tensor, theirs[prefix + name])
        assert torch.equal(network.queries.weight, before["queries.weight"])
        assert "text.pth: fills 100 % of the part `text`" in reports[1].summary()
        table = reports[1].table()
        assert (table.name, table.title) == ("text_checkpoint", "What the checkpoint of text filled")

    def test_a_file_of_the_whole_network_fills_a_part_of_it(self, files):
        network = Pair()
        (report,) = load(network, checkpoint={"text": files["whole"]})
        theirs = torch.load(files["whole"], weights_only=True)
        assert torch.equal(network.text[1].weight, theirs["text.1.weight"])
        assert not torch.equal(network.queries.weight, theirs["queries.weight"])
        assert report.matched_share == 1

    def test_the_task_adapts_weights_to_the_part_they_are_for(self, files, tmp_path):
        larger = build_model("vit", num_classes=0, image_size=16, **SMALL)
        torch.save(larger.state_dict(), tmp_path / "larger.pth")
        (report,) = load(Pair(), checkpoint={"vision": str(tmp_path / "larger.pth")})
        assert report.resized == ["pos_embed"]

    def test_one_refused_file_leaves_the_whole_network_as_it_is(self, files):
        network = Pair()
        before = snapshot(network)
        with pytest.raises(UserError) as caught:
            load(network, checkpoint={"vision": files["vision"], "text": files["vision"]})
        for text in ("model.checkpoint.text: ", "vision.pth", "fills 0 % of the part `text`", "min_matched_share"):
            assert text in str(caught.value)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

    def test_a_file_that_is_not_there_is_named_with_its_part(self):
        with pytest.raises(UserError, match=r"model\.checkpoint\.text: nowhere\.pth: does not exist"):
            load(Pair(), checkpoint={"text": "nowhere.pth"})

    @pytest.mark.parametrize(
        ("part", "near"), [("txt", "did you mean text"), ("zz", "there are vision, text, queries")]
    )
    def test_a_part_that_the_network_lacks_is_refused_with_the_nearest(self, files, part, near):
        with pytest.raises(UserError, match=rf"model\.checkpoint\.{part}: Pair has no part.*{near}"):
            load(Pair(), checkpoint={part: files["text"]})

    def test_heads_count_within_the_part_that_holds_them(self, files, tmp_path):
        state = torch.load(files["text"], weights_only=True)
        torch.save({name: tensor for name, tensor in state.items() if "bert.0" in name}, tmp_path / "body.pth")
        (report,) = load(Pair(), heads=("text.1", "queries"), checkpoint={"text": str(tmp_path / "body.pth")})
        assert (report.matched_share, report.reinitialised) == (1, ["1.weight", "1.bias"])


class TestFresh:
    def test_tensors_that_need_not_be_filled_count_in_no_share(self, files, tmp_path):
        state = torch.load(files["whole"], weights_only=True)
        del state["queries.weight"]
        torch.save(state, tmp_path / "w.pth")
        network = Pair()
        (report,) = load(network, checkpoint=str(tmp_path / "w.pth"), fresh=["queries.*"], min_matched_share=1.0)
        assert (report.fresh, report.missing, report.matched_share) == (["queries.weight"], [], 1)
        assert "left fresh: queries.weight" in report.summary()
        assert {row[0] for row in report.table().rows} == {"matched", "fresh"}
        with pytest.raises(UserError, match=r"not in the file: queries\.weight.*\n.*model\.fresh"):
            load(Pair(), checkpoint=str(tmp_path / "w.pth"), min_matched_share=0.995)

    def test_what_the_file_has_is_loaded_all_the_same(self, files):
        network = Pair()
        (report,) = load(network, checkpoint=files["whole"], fresh=["queries.*"])
        assert report.fresh == []
        assert torch.equal(network.queries.weight, torch.load(files["whole"], weights_only=True)["queries.weight"])

    def test_globs_name_tensors_of_the_whole_network_for_its_parts_too(self, files, tmp_path):
        state = torch.load(files["text"], weights_only=True)
        torch.save({name: tensor for name, tensor in state.items() if "bert.0" in name}, tmp_path / "body.pth")
        (report,) = load(Pair(), checkpoint={"text": str(tmp_path / "body.pth")}, fresh=["text.1.*"])
        assert (report.matched_share, report.fresh) == (1, ["1.weight", "1.bias"])

    def test_a_glob_that_matches_nothing_is_refused_with_the_nearest(self):
        with pytest.raises(UserError, match=r"model\.fresh: `querys\.\*` matches no tensor.*queries\.\*"):
            load(Pair(), fresh=["querys.*"])


class Coder(nn.Module):
    """Layers and a table of levels beside one another, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.inner.levels = nn.Parameter(torch.zeros(2, 4))
        self.extra = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)


class TestPartsTogether:
    TOGETHER = MappingProxyType({"coder": ("inner.layers", "inner.levels")})

    def load(self, network: nn.Module, file: Path, **settings):
        model = Model(name="coder", checkpoint={"coder": str(file)}, **settings)
        return load_start(network, model, adapt=lambda state, _: dict(state), heads=(), together=self.TOGETHER)

    def test_several_modules_start_from_one_file(self, tmp_path):
        source, network = Coder(), Coder()
        source.inner.levels.data.fill_(3)
        torch.save(source.inner.state_dict(), tmp_path / "coder.pth")
        (report,) = self.load(network, tmp_path / "coder.pth")
        assert (report.part, report.matched_share) == ("coder", 1)
        assert torch.equal(network.inner.levels, source.inner.levels)
        assert torch.equal(network.inner.layers[1].weight, source.inner.layers[1].weight)
        assert not torch.equal(network.extra.weight, source.extra.weight)

    def test_fresh_names_are_those_of_the_network(self, tmp_path):
        torch.save({"layers.0.weight": torch.ones(4, 4), "layers.0.bias": torch.ones(4)}, tmp_path / "half.pth")
        with pytest.raises(UserError, match=r"layers\.1"):
            self.load(Coder(), tmp_path / "half.pth")
        (report,) = self.load(Coder(), tmp_path / "half.pth", fresh=["inner.layers.1.*", "inner.levels"])
        assert report.fresh == ["levels", "layers.1.weight", "layers.1.bias"]

    def test_an_unknown_part_names_them(self, tmp_path):
        torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
        model = Model(name="coder", checkpoint={"codr": str(tmp_path / "a.pth")})
        with pytest.raises(UserError, match="coder"):
            load_start(Coder(), model, adapt=lambda state, _: dict(state), heads=(), together=self.TOGETHER)


class TestWhatTranslationsSay:
    def load(self, network: nn.Module, folder: Path, adapt, choose=None):
        torch.save(Coder().state_dict(), folder / "all.pth")
        model = Model(name="coder", checkpoint=str(folder / "all.pth"))
        return load_start(network, model, adapt=adapt, heads=("head",), classes=["a", "b"], choose=choose)

    def test_what_networks_of_the_file_s_kind_lack_starts_fresh_and_is_told(self, tmp_path):
        def adapt(state, _):
            kept = {name: each for name, each in state.items() if not name.startswith("extra.")}
            return Adapted(kept, kept, fresh=["extra.weight", "extra.bias"], notes=["it has no extra"])

        (report,) = self.load(Coder(), tmp_path, adapt)
        assert report.fresh == ["extra.weight", "extra.bias"]
        assert report.matched_share == 1
        assert "it has no extra" in report.summary()

    @pytest.mark.parametrize(("classes", "said"), [(("b", "a"), "in another order"), (("a", "b"), "")])
    def test_the_classes_that_a_translation_says_order_the_head(self, tmp_path, classes, said):
        network = Coder()
        (report,) = self.load(network, tmp_path, lambda state, _: Adapted(state, state, classes=classes))
        theirs = torch.load(tmp_path / "all.pth", weights_only=True)["head.bias"]
        assert torch.equal(network.head.bias, theirs if classes == ("a", "b") else theirs.flip(0))
        assert said in report.head

    def test_a_task_chooses_outputs_by_what_the_file_says_of_its_classes(self, tmp_path):
        asked = []

        def choose(weights, said):
            asked.append(said)
            fitted = {name: each[[1, 2]] if name.startswith("head.") else each for name, each in weights.items()}
            return Adapted(fitted, weights, classes=["a", "b"], notes=["two of three"])

        torch.save(
            {"model": Coder().state_dict() | {"head.weight": torch.randn(3, 4), "head.bias": torch.arange(3.0)},
             "classes": ["x", "a", "b"]},
            tmp_path / "three.pth",
        )  # fmt: skip
        network = Coder()
        model = Model(name="coder", checkpoint=str(tmp_path / "three.pth"))
        (report,) = load_start(
            network,
            model,
            adapt=lambda state, _: dict(state),
            heads=("head",),
            classes=["a", "b"],
            choose=choose,
        )
        assert asked == [["x", "a", "b"]]
        assert network.head.bias.tolist() == [1, 2]
        assert report.resized == ["head.weight", "head.bias"]
        assert "two of three" in report.summary()
