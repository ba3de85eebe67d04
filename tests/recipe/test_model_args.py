"""The model arguments that a recipe may not set, against the function that builds the model."""

import inspect

from models.vit import DECIDED_ELSEWHERE, build_model
from vision_train.recipe.sections import OWNED_MODEL_ARGS


def test_a_recipe_is_refused_what_the_model_would_refuse():
    parameters = inspect.signature(build_model).parameters.values()
    own = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    # The library builds networks for any number of channels; images of a recipe have three.
    assert OWNED_MODEL_ARGS.keys() == DECIDED_ELSEWHERE.keys() | own | {"in_chans"}
