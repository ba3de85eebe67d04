"""One folder per task; a new task adds its folder and one line here."""

TASKS = {
    "classification": "vision_train.tasks.classification",
    "pretraining": "vision_train.tasks.pretraining",
    "bags": "vision_train.tasks.bags",
}
"""Name in a recipe -> package with ``options.Method`` and ``options.DATA`` (light) and ``task.build`` (heavy, imported
late)."""
