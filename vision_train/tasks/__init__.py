"""One folder per task; a new task adds its folder and one line here."""

TASKS = {
    "classification": "vision_train.tasks.classification",
}
"""Name in a recipe -> package with ``options.Method`` (light) and ``task.build`` (heavy, imported late)."""
