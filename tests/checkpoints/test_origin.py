"""Weights by name: a stand-in of the hub on this machine, a cache that was filled before, and no network at all."""

import dataclasses
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from vision_train.checkpoints import provenance_of, read_weights, settle
from vision_train.checkpoints.origin import _brought, located, with_tag
from vision_train.errors import UserError
from vision_train.recipe import load_recipe

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "architecture": "vit_tiny_patch16_224",
    "num_classes": 2,
    "label_names": ["cat", "dog"],
    "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 32, 32], "crop_pct": 0.9},
}


class Hub:
    """Files of repositories, and which of them were asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.gated: set[str] = set()

    def add(self, repository: str, **files: bytes) -> None:
        for name, content in files.items():
            self.files[f"{repository}/{name}"] = content


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            owner, name, _, revision, file = self.path.lstrip("/").split("/", 4)
            repository = f"{owner}/{name}"
            hub.asked.append(f"{repository}/{file}")
            content = hub.files.get(f"{repository}/{file}")
            known = any(each.startswith(f"{repository}/") for each in hub.files)
            if repository in hub.gated:
                self.refuse(403, "GatedRepo")
            elif not known:
                self.refuse(404, "RepoNotFound")
            elif revision not in ("main", COMMIT):
                self.refuse(404, "RevisionNotFound")
            elif content is None:
                self.refuse(404, "EntryNotFound")
            else:
                self.send_response(200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content)

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's library; offline, as all tests are."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub's HTTP interface on the loopback address."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, bytes]:
    """The files of a repository as timm pushes them."""
    save_file({"head.weight": torch.ones(2, 4), "head.bias": torch.zeros(2)}, tmp_path / "w.safetensors")
    return {"model.safetensors": (tmp_path / "w.safetensors").read_bytes(), "config.json": json.dumps(CONFIG).encode()}


def test_weights_and_what_lies_beside_them_come_from_a_repository(hub: Hub, tiny: dict[str, bytes]) -> None:
    hub.add("someone/tiny", **tiny)
    weights = read_weights("hf-hub:someone/tiny")
    assert weights.state["head.weight"].shape == (2, 4)
    told = provenance_of(weights, "hf-hub:someone/tiny")
    assert told.get("mean") == (0.5, 0.5, 0.5)
    assert told.get("classes") == ["cat", "dog"]
    assert told.get("crop_share") == 0.9


def test_what_was_fetched_serves_without_a_network(
    hub: Hub, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("someone/tiny", **tiny)
    first = located("hf-hub:someone/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    assert located("hf-hub:someone/tiny") == first
    assert len(hub.asked) == asked
    assert (first.parent / "config.json").is_file()


def test_the_hub_is_asked_once_a_process(hub: Hub, tiny: dict[str, bytes]) -> None:
    hub.add("someone/tiny", **tiny)
    read_weights("hf-hub:someone/tiny")
    asked = len(hub.asked)
    assert asked
    read_weights("hf-hub:someone/tiny")
    assert len(hub.asked) == asked


def test_a_cache_that_was_filled_elsewhere_serves(cache: Path, tiny: dict[str, bytes]) -> None:
    folder = cache / "models--someone--tiny"
    for name, content in tiny.items():
        place = folder / "snapshots" / COMMIT / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    assert read_weights("hf-hub:someone/tiny").state["head.bias"].shape == (2,)
    assert read_weights(f"hf-hub:someone/tiny@{COMMIT}").state["head.bias"].shape == (2,)


def test_shards_come_with_their_index(hub: Hub, tiny: dict[str, bytes]) -> None:
    shards = {f"model-0000{number}-of-00002.safetensors": tiny["model.safetensors"] for number in (1, 2)}
    index = {"weight_map": dict(zip(("head.weight", "head.bias"), shards, strict=True))}
    hub.add("someone/large", **shards, **{"model.safetensors.index.json": json.dumps(index).encode()})
    found = located("hf-hub:someone/large")
    assert found.name == "model.safetensors.index.json"
    assert all((found.parent / shard).is_file() for shard in shards)


def test_without_a_network_one_message_says_how_to_fetch_them_elsewhere(cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        located("hf-hub:someone/tiny")
    message = str(caught.value)
    for text in ("model.checkpoint=hf-hub:someone/tiny", "HF_HUB_OFFLINE", str(cache)):
        assert text in message
    assert "hf download someone/tiny --local-dir tiny" in message
    assert message.endswith("model.checkpoint=tiny")


def test_a_hub_that_does_not_answer_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = "http://127.0.0.1:9"
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # it tries again
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    with pytest.raises(
        UserError, match=r"HF_ENDPOINT=http://127\.0\.0\.1:9.*Connection refused.*`hf download someone/tiny"
    ):
        located("hf-hub:someone/tiny")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf-hub:someone/absent", r"someone/absent .*does not exist, or is private"),
        ("hf-hub:someone/tiny@v9", r"someone/tiny .*has no revision v9"),
        ("hf-hub:someone/gated", r"someone/gated .*ask for access"),
        ("hf-hub:someone/empty", r"someone/empty holds none of model\.safetensors"),
        ("hf-hub:no//name", r"write hf-hub:OWNER/NAME"),
    ],
)
def test_what_a_repository_lacks_is_said(hub: Hub, tiny: dict[str, bytes], name: str, message: str) -> None:
    hub.add("someone/tiny", **tiny)
    hub.add("someone/gated", **tiny)
    hub.gated.add("someone/gated")
    hub.add("someone/empty", **{"README.md": b"nothing"})
    with pytest.raises(UserError, match=message):
        located(name)


class TestTimm:
    def test_the_tag_that_the_name_implies_is_taken_and_recorded(self, hub: Hub, tiny: dict[str, bytes]) -> None:
        name = "vit_tiny_patch16_224"
        tag = timm.get_pretrained_cfg(name).tag
        hub.add(f"timm/{name}.{tag}", **tiny)
        settled = settle(load_recipe("classification/vit_tiny", ["model.checkpoint=timm", "data.root=photos"]))
        assert settled.recipe.model.checkpoint == f"timm:{name}.{tag}"
        assert settled.recipe.augment.mean == (0.5, 0.5, 0.5)
        assert any(f"timm ({name}.{tag})" in note and "augment.mean=[0.5,0.5,0.5]" in note for note in settled.notes)

    def test_a_tag_in_the_name_names_the_weights_and_not_the_network(self, hub: Hub, tiny: dict[str, bytes]) -> None:
        hub.add("timm/vit_small_patch16_224.dino", **tiny)
        overrides = ["model.checkpoint=timm", "model.name=vit_small_patch16_224.dino", "data.root=photos"]
        model = settle(load_recipe("classification/vit_small", overrides)).recipe.model
        assert (model.name, model.checkpoint) == ("vit_small_patch16_224", "timm:vit_small_patch16_224.dino")

    @pytest.mark.parametrize(
        ("name", "model", "message"),
        [
            ("timm", "vit", r"timm has no model `vit`.*timm:NAME\.TAG"),
            (
                "timm:vit_tiny_patch16_224.nonsense",
                "",
                r"no weights vit_tiny_patch16_224\.nonsense; there are .*augreg",
            ),
            ("timm", "test_vit_without_weights", "timm has no model"),
        ],
    )
    def test_what_timm_has_not_is_refused_by_name(self, name: str, model: str, message: str) -> None:
        with pytest.raises(UserError, match=message):
            with_tag(name, model)

    def test_other_names_stay(self) -> None:
        assert with_tag("hf-hub:someone/tiny", "vit") == "hf-hub:someone/tiny"
        assert located("timm.pth") == Path("timm.pth")

    def test_without_a_network_the_repository_of_the_weights_is_named(self, cache: Path) -> None:
        with pytest.raises(UserError, match=r"hf download timm/vit_tiny_patch16_224\.augreg_in21k_ft_in1k"):
            located("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k")


def test_names_stay_names_in_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("timm", "timm:vit_tiny_patch16_224", "hf-hub:someone/tiny"):
        assert load_recipe("quickstart", [f"model.checkpoint={name}"]).model.checkpoint == name
    assert load_recipe("quickstart", ["model.checkpoint=./timm"]).model.checkpoint == str(tmp_path / "timm")

    def test_a_file_that_timm_keeps_elsewhere_than_on_the_hub(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        content = tmp_path / "weights.pth"
        torch.save({"a": torch.ones(1)}, content)
        digest = hashlib.sha256(content.read_bytes()).hexdigest()[:8]
        name = "gcvit_tiny.in1k"
        for right, place in ((digest, "right"), ("01234567", "wrong")):
            file = tmp_path / place / f"gcvit-{right}.pth"
            file.parent.mkdir()
            file.write_bytes(content.read_bytes())
            published = dataclasses.replace(timm.get_pretrained_cfg(name), url=file.as_uri())
            monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _, found=published: found)
            if place == "right":
                assert located(f"timm:{name}") == tmp_path / "checkpoints" / file.name
            else:
                _brought.cache_clear()
                with pytest.raises(UserError, match=r"timm:gcvit_tiny\.in1k: cannot be downloaded .*hash"):
                    located(f"timm:{name}")
