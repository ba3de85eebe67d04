"""Where weights come from: a path, timm, or the Hugging Face hub, whose libraries download and cache."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import timm
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from timm.models import PretrainedCfg
from torch import hub as torch_hub

from vision_train import __version__
from vision_train.errors import UserError
from vision_train.recipe.remote import HUB, TIMM, is_remote

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)
"""Names of weights in a repository of the hub or a copy of it; the first that is there is taken. Safe formats come
first."""
COMPANIONS = ("preprocessor_config.json", "processor_config.json", "config.json", "open_clip_config.json")
"""Files of a repository that say how images are prepared, which classes there are and what the network is; who
comes first counts."""


def located(name: str | Path) -> Path:
    """The file or folder that a name in ``model.checkpoint`` stands for; what is elsewhere is brought into the cache.

    Args:
        name: A path, ``timm:NAME.TAG``, ``hf-hub:OWNER/NAME`` or ``hf-hub:OWNER/NAME@REVISION``.

    Raises:
        UserError: Nothing of this name is known or can be reached; the message says how to fetch it elsewhere.
    """
    text = str(name)
    if not is_remote(text):
        return Path(name)
    return _brought(text, constants.HF_HUB_CACHE, constants.ENDPOINT)


@lru_cache(maxsize=256)
def _brought(text: str, _cache: str, _endpoint: str) -> Path:
    """Ask once a process: a run opens its weights several times, and means the same ones each time."""
    if text.startswith(HUB):
        repository, _, revision = text.removeprefix(HUB).partition("@")
        return _from_hub(text, repository, revision or None)
    return _from_timm(text, _published(timm_name(text) or "", text))


def timm_name(name: str) -> str | None:
    """The model and tag in ``timm:NAME.TAG``; None for names of another kind."""
    return name.partition(":")[2] or None if name.startswith(f"{TIMM}:") else None


def with_tag(name: str, model: str) -> str:
    """Replace ``timm`` by the name of the weights that timm has for a model; other names stay.

    Args:
        name: As in ``model.checkpoint``.
        model: Name of the model in timm, with or without a tag.

    Raises:
        UserError: timm has no such model, or no weights for it.
    """
    if name != TIMM and timm_name(name) is None:
        return name
    wanted = timm_name(name) or model
    published = _published(wanted, name)
    tag = f".{published.tag}" if published.tag else ""
    return f"{TIMM}:{published.architecture or wanted.partition('.')[0]}{tag}"


def _published(model: str, name: str) -> PretrainedCfg:
    """What timm publishes for a model.

    Raises:
        UserError: It has no such model, or no weights for it.
    """
    architecture = model.partition(".")[0]
    tagged = timm.list_pretrained(f"{architecture}.*")
    if not timm.is_model(architecture):
        raise UserError(
            f"model.checkpoint={name}: timm has no model `{architecture}`; name weights as timm:NAME.TAG, such as "
            "timm:deit_small_patch16_224.fb_in1k, or a file"
        )
    try:
        published = timm.get_pretrained_cfg(model)
    except RuntimeError as error:
        raise UserError(
            f"model.checkpoint={name}: timm has no weights {model}; there are {', '.join(tagged)}"
        ) from error
    if published is None or not published.has_weights:
        others = f"; there are {', '.join(tagged)}" if tagged else ""
        raise UserError(f"model.checkpoint={name}: timm has no weights for {model}{others}; name a file instead")
    return published


def _from_timm(name: str, published: PretrainedCfg) -> Path:
    if published.hf_hub_id:
        repository, _, revision = published.hf_hub_id.partition("@")
        wanted = published.hf_hub_filename
        return _from_hub(name, repository, revision or None, (_safe(wanted), wanted) if wanted else WEIGHTS)
    if published.file:
        return Path(published.file)
    url, file = published.url if isinstance(published.url, list | tuple) else (str(published.url), "")
    if published.custom_load:
        raise UserError(f"model.checkpoint={name}: {url} is no file of torch; name a PyTorch version of these weights")
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"model.checkpoint={name}: HF_HUB_OFFLINE forbids to download it; {_by_hand(url)}")
    try:
        return _downloaded(url, file or url.rpartition("/")[2])
    except (OSError, RuntimeError) as error:  # of urllib, and of a digest that does not agree
        raise UserError(f"model.checkpoint={name}: cannot be downloaded ({error}); {_by_hand(url)}") from error


def _downloaded(url: str, name: str) -> Path:
    """A file in the cache of torch, where timm keeps it too, checked against the digest in its name."""
    file = Path(torch_hub.get_dir()) / "checkpoints" / name
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = re.search(r"-([a-f0-9]{8,})\.", name)
        torch_hub.download_url_to_file(url, str(file), digest[1] if digest else None, progress=False)
    return file


def _safe(file: str) -> str:
    """The safetensors version of a file's name."""
    known = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}
    return known.get(file, f"{file.removesuffix('.bin')}.safetensors" if file.endswith(".bin") else file)


def _by_hand(url: str) -> str:
    return f"fetch {url} on a machine with a network, copy it here, and name the file with model.checkpoint=FILE"


def _from_hub(name: str, repository: str, revision: str | None, wanted: Sequence[str] = WEIGHTS) -> Path:
    hub = _Repository(name, repository, revision)
    weights = hub.first(wanted)
    if weights is None:
        if hub.unreachable:
            raise hub.out_of_reach(wanted)
        raise UserError(
            f"model.checkpoint={name}: {repository} holds none of {', '.join(wanted)}; download the file that "
            "holds its weights and name that"
        )
    if weights.name.endswith(".index.json"):
        for shard in _shards(weights):
            if hub.first([shard]) is None and hub.unreachable:
                raise hub.out_of_reach([shard])
    for companion in COMPANIONS:
        hub.first([companion])
    return weights


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{index}: is no index of weights ({error}); remove it from the cache to load it again"
        ) from error


class _Repository:
    """Files of one repository of the hub, from the cache or from the hub."""

    def __init__(self, name: str, repository: str, revision: str | None) -> None:
        self.name, self.repository, self.revision = name, repository, revision
        self.unreachable = ""
        """Why the hub was not asked; empty while it answers."""

    def first(self, files: Iterable[str]) -> Path | None:
        """The first of these files that the repository holds.

        Raises:
            UserError: There is no such repository, or it may not be read.
        """
        for file in dict.fromkeys(files):
            try:
                return self._file(file)
            except LocalEntryNotFoundError as error:
                # The others are looked for in the cache alone: waiting for the hub once is enough.
                self.unreachable = self.unreachable or _reason(error)
            except EntryNotFoundError:
                continue
        return None

    def _file(self, file: str) -> Path:
        try:
            found = hf_hub_download(
                self.repository,
                file,
                revision=self.revision,
                library_name="vision-train",
                library_version=__version__,
                local_files_only=bool(self.unreachable),
            )
        except HFValidationError as error:
            raise self._refused("is no name of a repository; write hf-hub:OWNER/NAME") from error
        except GatedRepoError as error:
            raise self._refused(
                f"may be read only by those whom its owner lets; ask for access on its page, then run `hf auth login`, "
                f"or {self._elsewhere([file])}"
            ) from error
        except RepositoryNotFoundError as error:
            raise self._refused("does not exist, or is private; mend the name, or run `hf auth login`") from error
        except RevisionNotFoundError as error:
            raise self._refused(f"has no revision {self.revision}") from error
        except EntryNotFoundError:
            raise
        except (OSError, HTTPError) as error:
            raise self._refused(f"cannot be downloaded ({_line(error)}); {self._elsewhere([file])}") from error
        return Path(found)

    def out_of_reach(self, files: Sequence[str]) -> UserError:
        """The error about files that are not in the cache while the hub cannot be asked."""
        return self._refused(
            f"is not in the cache {constants.HF_HUB_CACHE}, and the hub cannot be asked ({self.unreachable}); "
            f"{self._elsewhere(files)}"
        )

    def _elsewhere(self, files: Sequence[str]) -> str:
        folder = self.repository.rpartition("/")[2]
        wanted = [files[0], "config.json"] if len(files) == 1 or files is not WEIGHTS else []
        revision = ["--revision", self.revision] if self.revision else []
        command = " ".join(["hf download", self.repository, *wanted, *revision, "--local-dir", folder])
        return (
            f"on a machine with a network run `{command}`, copy the folder {folder} here, and name it with "
            f"model.checkpoint={folder}"
        )

    def _refused(self, reason: str) -> UserError:
        hub = "" if constants.ENDPOINT == "https://huggingface.co" else f" (HF_ENDPOINT={constants.ENDPOINT})"
        return UserError(f"model.checkpoint={self.name}: the repository {self.repository}{hub} {reason}")


def _reason(error: LocalEntryNotFoundError) -> str:
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE is set"
    return _line(error.__cause__ or error)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
