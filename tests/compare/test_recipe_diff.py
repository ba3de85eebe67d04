from vision_train.compare.recipe_diff import differing_keys, flatten


def test_mappings_become_dotted_keys_and_lists_stay_values():
    assert flatten({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [1, 2], "e": {}}


def test_only_what_differs_is_listed_and_what_is_absent_is_none():
    recipes = [{"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3, "d": 4}}, {"a": 1, "b": {"c": 2}}]
    assert differing_keys(recipes) == {"b.c": [2, 3, 2], "b.d": [None, 4, None]}


def test_a_section_that_is_null_in_one_recipe_differs_by_what_it_holds():
    assert differing_keys([{"ema": None}, {"ema": {"decay": 0.9}}]) == {"ema.decay": [None, 0.9]}


def test_ignored_keys_are_left_out():
    assert differing_keys([{"name": "a", "x": 1}, {"name": "b", "x": 1}], ["name"]) == {}
