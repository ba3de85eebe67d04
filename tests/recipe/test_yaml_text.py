"""Files are read as OmegaConf reads them, and the lines of keys are those of the file."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from vision_train.recipe.catalogue import builtin_files
from vision_train.recipe.yaml_text import read_yaml


def as_omegaconf_has_it(text: str) -> object:
    return OmegaConf.to_container(OmegaConf.create(text), resolve=False)


def test_every_file_of_recipes_is_read_as_omegaconf_reads_it():
    files = builtin_files()
    assert files
    for file in files.values():
        text = file.read_text(encoding="utf-8")
        # The texts of both tell 1 from 1.0 and True.
        assert repr(read_yaml(text)[1]) == repr(as_omegaconf_has_it(text)), file


@pytest.mark.parametrize("value", ["2020-01-01", "1e-3", "1.5e3", "017", "0o17", "12:30", "yes", "~", ".inf"])
def test_a_value_that_readers_differ_about(value):
    assert repr(read_yaml(f"a: {value}")[1]) == repr(as_omegaconf_has_it(f"a: {value}"))


@given(st.text("0123456789.eE+_yYnN~", min_size=1, max_size=6))
@settings(max_examples=300)
def test_any_number_or_word_is_read_as_omegaconf_reads_it(value):
    assert repr(read_yaml(f"a: {value}")[1]) == repr(as_omegaconf_has_it(f"a: {value}"))


def test_merged_keys_are_values_and_have_no_line_of_their_own():
    text = "base: &base {a: 1, b: 2}\nmine:\n  <<: *base\n  b: 3\n"
    lines, values = read_yaml(text)
    assert values == as_omegaconf_has_it(text) == {"base": {"a": 1, "b": 2}, "mine": {"a": 1, "b": 3}}
    assert lines["mine", "b"] == 4
    assert ("mine", "a") not in lines


@pytest.mark.parametrize(
    "text", ["a: &a {x: 1}\nb: &b {y: 2}\nc:\n  <<: *a\n  <<: *b\n", "c:\n  <<: [{a: 1}, {a: 2, b: 3}]\n", "a: {=: 4}"]
)
def test_keys_of_signs_mean_what_they_mean_to_omegaconf(text):
    assert read_yaml(text)[1] == as_omegaconf_has_it(text)


def test_a_sign_of_equality_is_a_text():
    assert read_yaml("description: =")[1] == {"description": "="}


def test_an_empty_text_has_no_values():
    assert read_yaml("# nothing yet\n") == ({}, None)
