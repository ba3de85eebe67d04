"""Sending an export to the Hugging Face hub."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from rich.console import Console

from vision_train import __version__
from vision_train.errors import UserError
from vision_train.run.export.place import CARD


def check_push(repository: str) -> None:
    """Find out before any work whether something could be sent.

    Raises:
        UserError: The name is none of a repository, or this machine has no token.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"--push {repository}: is no name of a repository; write OWNER/NAME") from error
    if huggingface_hub.get_token() is None:
        raise UserError(
            f"--push {repository}: this machine has no token of the hub; run `hf auth login`, or set HF_TOKEN to a "
            "token that may write"
        )


def _connection_error() -> type[Exception]:
    """What the library raises by which the hub is asked; which library that is depends on the version."""
    library = import_module(type(huggingface_hub.utils.get_session()).__module__.partition(".")[0])
    error: type[Exception] = library.HTTPError
    return error


def push(repository: str, files: Sequence[tuple[str, Path]], message: str, console: Console) -> None:
    """Send files in one commit. A repository that is made for them is private; a README that it has stays.

    Args:
        repository: ``OWNER/NAME``.
        files: Names in the repository, and the files.
        message: Of the commit.
        console: Where to report.

    Raises:
        UserError: The hub cannot be reached or refuses them; the files stay where they are.
    """
    api = huggingface_hub.HfApi(library_name="vision-train", library_version=__version__)
    try:
        repository = api.create_repo(repository, private=True, exist_ok=True).repo_id
        own_card = api.file_exists(repository, CARD)
        sent = [(name, file) for name, file in files if not (own_card and name == CARD)]
        added = [huggingface_hub.CommitOperationAdd(name, file) for name, file in sent]
        commit = api.create_commit(repository, added, commit_message=message)
    except (OSError, _connection_error()) as error:  # errors of the hub itself are the first
        reason = str(error).strip().split("\n")[0]
        commands = "; ".join(shlex.join(["hf", "upload", repository, str(file), name]) for name, file in files)
        raise UserError(
            f"--push {repository}: failed ({reason}); the files are written, and this sends them too: {commands}"
        ) from error
    console.print(f"sent {', '.join(name for name, _ in sent)}: {commit.commit_url}")
    if own_card:
        console.print(f"note: the {CARD} of {repository} is left as it is")
    else:
        console.print(f"note: a new repository is private, and its {CARD} names no license; both are for you to decide")
