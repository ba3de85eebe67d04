"""Recipe files: from YAML on disk to a checked, typed ``Recipe``, and back."""

from vision_train.recipe.catalogue import builtin_recipes
from vision_train.recipe.keys import explain
from vision_train.recipe.load import load_recipe, recipe_of
from vision_train.recipe.plain import to_plain, write_recipe
from vision_train.recipe.recipe import Recipe

__all__ = [
    "Recipe",
    "builtin_recipes",
    "explain",
    "load_recipe",
    "recipe_of",
    "to_plain",
    "write_recipe",
]
