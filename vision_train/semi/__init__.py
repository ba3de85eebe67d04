"""Pure pieces of learning from unlabelled images: no task, no files, no Lightning."""
