"""``python -m vision_train`` is ``vision-train``."""

from vision_train.cli import main

main()
