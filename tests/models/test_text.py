"""Reading layers of BERT, and the names of its files."""

import subprocess
import sys

import pytest
import torch

from models.text import BertSizes, adapt_bert, build_bert, encode_text

TINY = BertSizes(
    vocab_size=40,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=3,
    intermediate_size=36,
    max_position_embeddings=16,
)


@pytest.fixture
def bert():
    torch.manual_seed(0)
    return build_bert(TINY).eval()


@pytest.fixture
def batch():
    """Token ids and padding of texts with 6 and 3 tokens."""
    padding = torch.arange(6)[None] >= torch.tensor([[6], [3]])
    return torch.randint(5, 40, (2, 6), generator=torch.Generator().manual_seed(0)), padding


class TestLayers:
    def test_layers_are_counted_from_1_and_0_is_the_embedding(self, bert, batch):
        ids, padding = batch
        embedded = bert.embeddings(input_ids=ids)
        torch.testing.assert_close(encode_text(bert, ids, padding, [0]), embedded)
        last = bert(input_ids=ids, attention_mask=~padding).last_hidden_state
        torch.testing.assert_close(encode_text(bert, ids, padding, [3]), last)
        assert not torch.allclose(encode_text(bert, ids, padding, [2]), last)

    def test_several_layers_are_averaged(self, bert, batch):
        apart = [encode_text(bert, *batch, [layer]) for layer in (1, 3)]
        torch.testing.assert_close(encode_text(bert, *batch, [1, 3]), sum(apart) / 2)

    def test_what_stands_on_padding_changes_no_other_token(self, bert, batch):
        ids, padding = batch
        found, other = (encode_text(bert, each, padding, [3]) for each in (ids, ids.masked_fill(padding, 0)))
        torch.testing.assert_close(found[~padding], other[~padding])
        assert not torch.allclose(found[1, 3:], other[1, 3:])

    @pytest.mark.parametrize("layer", [4, -1])
    def test_a_layer_that_is_not_there_is_refused_by_its_number(self, bert, batch, layer):
        with pytest.raises(ValueError, match=f"layer {layer} .* has 3"):
            encode_text(bert, *batch, [layer])


class TestNames:
    def test_names_are_those_of_transformers_without_the_pooler(self, bert):
        from transformers import BertConfig, BertModel

        names = BertModel(BertConfig(**vars(TINY))).state_dict().keys()
        assert bert.state_dict().keys() == {name for name in names if not name.startswith("pooler.")}

    @pytest.mark.parametrize("prefix", ["", "bert."])
    def test_the_first_files_have_other_names_of_norms(self, bert, prefix):
        state = {name: torch.randn_like(each) for name, each in bert.state_dict().items()}

        def earlier(name):
            return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

        spare = {"bert.pooler.dense.bias": torch.zeros(24), "cls.predictions.bias": torch.zeros(40)}
        adapted = adapt_bert({prefix + earlier(name): each for name, each in state.items()} | spare, bert)
        assert all(torch.equal(adapted[name], each) for name, each in state.items())

    def test_more_layers_than_there_are_places_for_are_refused_by_name(self, bert):
        state = bert.state_dict() | {"encoder.layer.3.output.dense.bias": torch.zeros(24)}
        with pytest.raises(ValueError, match=r"encoder\.layer\.3\.output\.dense\.bias.* 3 layers"):
            adapt_bert(state, bert)


class TestSizes:
    def test_a_configuration_beside_weights_says_the_sizes(self):
        config = {"model_type": "bert", "hidden_act": "gelu", "architectures": ["BertForMaskedLM"], **vars(TINY)}
        assert BertSizes.of_config(config) == TINY
        assert BertSizes.of_config({}) == BertSizes()

    @pytest.mark.parametrize(
        ("key", "value"),
        [("model_type", "roberta"), ("hidden_act", "relu"), ("hidden_size", "wide"), ("layer_norm_eps", 1)],
    )
    def test_a_configuration_of_another_network_is_refused_by_its_key(self, key, value):
        with pytest.raises(ValueError, match=f"^{key}: is {value!r}"):
            BertSizes.of_config({key: value})

    @pytest.mark.parametrize(
        ("key", "value"), [("num_hidden_layers", 0), ("vocab_size", True), ("num_attention_heads", 7)]
    )
    def test_sizes_that_are_no_bert_are_refused_by_name(self, key, value):
        with pytest.raises(ValueError, match=f"^{key}: is {value}"):
            BertSizes(**{key: value})


def test_transformers_is_imported_only_where_a_bert_is_built():
    code = "import sys, models.text; models.text.BertSizes(); sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
