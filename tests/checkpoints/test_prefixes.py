"""Where in a file a model's tensors are found: below which prefix, in which of several networks, under which names."""

import pytest
import timm
import torch

from models.vit import adapt_published, head_names
from vision_train.checkpoints import load_weights
from vision_train.errors import UserError

HEAD = ("head.weight", "head.bias")


def load(model, path, **settings):
    return load_weights(model, path, adapt=adapt_published, heads=head_names(model), **settings)


def below(prefix, state):
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def saved(tmp_path, state):
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    return tmp_path / "w.pth"


class TestRivals:
    @pytest.mark.parametrize(("first", "second"), [("models.0", "models.1"), ("left", "right"), ("right", "left")])
    def test_two_networks_of_the_same_names_are_for_the_key_to_choose(self, tmp_path, small_vit, first, second):
        one, other = small_vit(), small_vit()
        path = saved(tmp_path, below(first, one.state_dict()) | below(second, other.state_dict()))
        with pytest.raises(UserError, match=rf"several networks.*`{first}`.*`{second}`.*model\.checkpoint_key={first}"):
            load(small_vit(), path)
        model = small_vit()
        load(model, path, key=second)
        assert torch.equal(model.cls_token, other.cls_token)

    def test_one_that_holds_most_of_the_names_is_a_rival_too(self, tmp_path, small_vit):
        part = {name: tensor for name, tensor in small_vit().state_dict().items() if name not in HEAD}
        path = saved(tmp_path, below("left", part) | below("right", small_vit().state_dict()))
        with pytest.raises(UserError, match=r"several networks.*model\.checkpoint_key=right"):
            load(small_vit(), path)

    def test_a_decoder_with_the_same_blocks_is_none(self, tmp_path, small_vit):
        source, model = small_vit(depth=6), small_vit(depth=6)
        decoder = {n: t for n, t in small_vit(depth=6).state_dict().items() if n.startswith(("blocks", "norm", "pos"))}
        load(model, saved(tmp_path, below("decoder", decoder) | below("encoder", source.state_dict())))
        assert torch.equal(model.cls_token, source.cls_token)

    def test_equal_networks_are_one(self, tmp_path, small_vit):
        source = small_vit()
        load(small_vit(), saved(tmp_path, below("left", source.state_dict()) | below("right", source.state_dict())))

    @pytest.mark.parametrize("first", [True, False])
    def test_the_one_whose_shapes_fit(self, tmp_path, small_vit, first):
        source = small_vit()
        parts = [below("small", source.state_dict()), below("large", small_vit(embed_dim=48).state_dict())]
        path, model = saved(tmp_path, parts[0] | parts[1] if first else parts[1] | parts[0]), small_vit()
        load(model, path)
        assert torch.equal(model.head.weight, source.head.weight)


class TestOtherNetworksBeside:
    def test_their_tensors_do_not_fill_gaps(self, tmp_path, small_vit):
        state = below("backbone", small_vit().state_dict())
        state["cls_token"] = state.pop("backbone.cls_token")
        with pytest.raises(UserError, match=r"not in the file: cls_token.*\n.*means nothing without cls_token"):
            load(small_vit(), saved(tmp_path, state))

    def test_a_head_outside_the_prefix_is_told(self, tmp_path, small_vit):
        source, model = small_vit(), small_vit()
        state = {name if name in HEAD else f"backbone.{name}": each for name, each in source.state_dict().items()}
        report = load(model, saved(tmp_path, state))
        assert torch.equal(model.head.weight, source.head.weight)
        assert "head.weight, head.bias, which stand outside `backbone`" in report.summary()

    def test_a_head_inside_goes_before(self, tmp_path, small_vit):
        source, model = small_vit(), small_vit()
        state = below("backbone", source.state_dict()) | {name: torch.zeros(5) for name in HEAD}
        report = load(model, saved(tmp_path, state))
        assert torch.equal(model.head.weight, source.head.weight)
        assert report.unexpected == list(HEAD)
        assert not report.notes


class TestKnownLayoutsWithinOtherModules:
    """Names that are translated stand below any module, and a tower may be saved alone."""

    @pytest.mark.parametrize("lead", ["net.", "model.encoder.", "vit."])
    def test_transformers(self, tmp_path, lead):
        transformers = pytest.importorskip("transformers")
        sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 4}
        theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, intermediate_size=96))
        args = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 2}
        model = timm.create_model("vit_tiny_patch16_224", **args)
        state = {f"{lead}{name}": tensor for name, tensor in theirs.state_dict().items()}
        report = load(model, saved(tmp_path, state | {"criterion.weight": torch.ones(2)}))
        assert torch.equal(model.head.weight, theirs.classifier.weight)
        assert report.unexpected == ["criterion.weight"]

    def test_two_of_transformers_are_for_the_key_to_choose(self, tmp_path, small_vit):
        kernel = {"vit.embeddings.patch_embeddings.projection.weight": torch.ones(24, 3, 4, 4)}
        with pytest.raises(UserError, match=r"several networks, below `left`, `right`; .*model\.checkpoint_key"):
            load(small_vit(), saved(tmp_path, below("left", kernel) | below("right", kernel)))

    @pytest.mark.parametrize("lead", ["", "visual.", "net.visual.", "image_encoder."])
    def test_tower_of_clip(self, tmp_path, published, lead):
        args = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "num_heads": 2, "num_classes": 0, "depth": 2}
        source, model = (timm.create_model("vit_base_patch16_clip_224", **args) for _ in range(2))
        whole = published.openai_clip(source)
        state = {name.replace("visual.", lead): whole[name] for name in whole if name.startswith("visual.")}
        report = load(model, saved(tmp_path, state))
        assert report.unexpected == ["visual.proj"]
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in source.state_dict().items())

    def test_official_convnext(self, tmp_path, published):
        sizes = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), "num_classes": 3}
        source, model = (timm.create_model("convnext_tiny", **sizes) for _ in range(2))
        load(model, saved(tmp_path, below("net", published.convnext(source))))
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in source.state_dict().items())


class TestTablesOfPositions:
    def test_without_the_dimension_of_a_batch(self, tmp_path, small_vit):
        source, model = small_vit(), small_vit()
        load(model, saved(tmp_path, source.state_dict() | {"pos_embed": source.pos_embed.data[0]}))
        assert torch.equal(model.pos_embed, source.pos_embed)

    @pytest.mark.parametrize("shape", [(0,), (17,), ()])
    def test_that_are_none(self, tmp_path, small_vit, shape):
        state = small_vit().state_dict() | {"pos_embed": torch.ones(shape)}
        with pytest.raises(UserError, match=r"w\.pth: does not fit .*its pos_embed has the shape"):
            load(small_vit(), saved(tmp_path, state))
