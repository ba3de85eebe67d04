import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from augment.geometry import View
from augment.pipeline import eval_pipeline
from models.mil.pictures import cut_tile
from models.vit import build_model
from vision_train.data.bags.bag import read_bag
from vision_train.data.bags.index import index_bags
from vision_train.data.bags.tools.embed import Embedded, Embedding, embed_images, images_by_id
from vision_train.data.bags.tools.tiles import Pixels
from vision_train.data.decode import decode
from vision_train.errors import UserError

SIDE = 16
TILE = 100
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
BLOB_CORNERS = [[0, 100], [100, 100], [0, 200], [100, 200]]


@dataclass(frozen=True)
class SmallEncoder:
    name: str
    encode: Callable[[Tensor], Tensor]
    precision: str = "32-true"

    @torch.no_grad()
    def __call__(self, tiles: Sequence[Pixels]) -> Tensor:
        transform = eval_pipeline(SIDE, MEAN, STD)
        features = self.encode(torch.stack([transform(View.whole(tile)).image for tile in tiles]))
        return features.to(torch.float32 if self.precision == "32-true" else torch.float16)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_model("vit", num_classes=0, image_size=SIDE, patch_size=8, embed_dim=8, depth=1, num_heads=1).eval()


@pytest.fixture
def embedding(tmp_path: Path, network: nn.Module) -> Embedding:
    return Embedding(tmp_path / "bags", SmallEncoder("vit-1", network), TILE, batch_size=3)


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """Two images with a blob on white, of another hue each."""
    found = {}
    for number in range(2):
        pixels = np.full((500, 600, 3), 250, dtype=np.uint8)
        blob = np.random.default_rng(number).integers(0, 100, (200, 200, 3), dtype=np.uint8)
        blob[..., number] += 150
        pixels[100:300, :200] = blob
        found[f"image_{number}"] = tmp_path / f"image_{number}.png"
        Image.fromarray(pixels).save(found[f"image_{number}"])
    return found


def embed(images: dict[str, Path], embedding: Embedding, on_bad_image: str = "error") -> list[Embedded]:
    return list(embed_images(images, embedding, on_bad_image, "give --on-bad-image skip"))  # type: ignore[arg-type]


def test_images_of_any_name(images: dict[str, Path], embedding: Embedding, tmp_path: Path) -> None:
    names = "caf\udce9\n1", "x" * 251
    for image, name in zip(images.values(), names, strict=True):
        image.rename(tmp_path / f"{name}.png")
    found = images_by_id(tmp_path / f"{name}.png" for name in names)
    assert sum(image.tiles for image in embed(found, embedding)) == 8
    assert all(image.kept for image in embed(found, embedding))
    index = index_bags(embedding.folder)
    assert sorted(index.entries) == sorted(names)
    assert all(read_bag(entry).coords is not None for entry in index.entries.values())


def test_bags_hold_what_the_network_makes_of_each_tile(
    images: dict[str, Path], embedding: Embedding, network: nn.Module
) -> None:
    assert embed(images, embedding) == [Embedded(image, tiles=4) for image in images.values()]
    index = index_bags(embedding.folder)
    assert index.bad == {}
    assert list(index.entries) == ["image_0", "image_1"]
    for bag_id, entry in index.entries.items():
        assert (entry.encoder, entry.patch_size_level0, entry.dtype, entry.width) == ("vit-1", TILE, "float32", 8)
        bag = read_bag(entry)
        assert bag.coords is not None
        assert bag.coords.tolist() == BLOB_CORNERS
        pixels = decode(images[bag_id])
        transform = eval_pipeline(SIDE, MEAN, STD)
        tiles = torch.stack([transform(View.whole(cut_tile(pixels, x, y, TILE))).image for x, y in BLOB_CORNERS])
        with torch.no_grad():
            assert torch.allclose(bag.features, network(tiles), atol=1e-6)


def test_files_are_those_that_trident_would_write(images: dict[str, Path], embedding: Embedding) -> None:
    embed(images, embedding)
    home = embedding.folder / "1x_100px_0px_overlap"
    with h5py.File(home / "features_vit-1" / "image_0.h5") as file:
        assert dict(file["features"].attrs) == {"name": "image_0", "encoder": "vit-1"}
        attributes = dict(file["coords"].attrs)
        assert file["coords"].dtype == np.int64
    with h5py.File(home / "patches" / "image_0_patches.h5") as file:
        assert list(file) == ["coords"]
        assert dict(file["coords"].attrs) == attributes
    assert attributes == {
        **{"patch_size": TILE, "patch_size_level0": TILE, "overlap": 0, "name": "image_0", "background": "left out"},
        **{"level0_magnification": 1, "target_magnification": 1, "level0_width": 600, "level0_height": 500},
    }


def test_a_stopped_command_goes_on(images: dict[str, Path], embedding: Embedding) -> None:
    first = next(iter(embed_images(images, embedding, "error", "")))
    assert embed(images, embedding) == [replace(first, tiles=0, kept=True), Embedded(images["image_1"], tiles=4)]
    assert all(done.kept for done in embed(images, embedding))


def test_an_interruption_leaves_no_half_file(images: dict[str, Path], embedding: Embedding) -> None:
    calls = 0

    def interrupted(batch: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:  # the second batch of the second image
            raise KeyboardInterrupt
        return batch.mean(dim=(2, 3))

    stopped = replace(embedding, encoder=replace(embedding.encoder, encode=interrupted))
    with pytest.raises(KeyboardInterrupt):
        embed(images, stopped)
    assert [file.name for file in stopped.features.iterdir()] == ["image_0.h5"]
    assert [file.name for file in stopped.patches.iterdir()] == ["image_0_patches.h5"]
    calls = 4
    assert [done.kept for done in embed(images, stopped)] == [True, False]


def rewrite(images: dict[str, Path], embedding: Embedding) -> Embedding:
    image = Image.open(images["image_0"])
    image.putpixel((0, 0), (1, 2, 3))
    image.save(images["image_0"])
    os.utime(images["image_0"], (0, 0))  # older than its bag, as another image moved to this place may be
    return embedding


def newer(images: dict[str, Path], embedding: Embedding) -> Embedding:
    later = images["image_0"].stat().st_mtime + 1000
    os.utime(images["image_0"], (later, later))
    return embedding


def damaged(images: dict[str, Path], embedding: Embedding) -> Embedding:
    (embedding.features / "image_0.h5").write_bytes(b"")
    return embedding


def without_patches(images: dict[str, Path], embedding: Embedding) -> Embedding:
    (embedding.patches / "image_0_patches.h5").unlink()
    return embedding


def with_background(images: dict[str, Path], embedding: Embedding) -> Embedding:
    return replace(embedding, keep_background=True)


@pytest.mark.parametrize("change", [rewrite, newer, damaged, without_patches, with_background])
def test_what_has_changed_is_done_again(
    images: dict[str, Path], embedding: Embedding, change: Callable[[dict[str, Path], Embedding], Embedding]
) -> None:
    embed(images, embedding)
    assert not embed(images, change(images, embedding))[0].kept


def test_other_weights_and_tiles_have_folders_of_their_own(images: dict[str, Path], embedding: Embedding) -> None:
    embed(images, embedding)
    others = replace(embedding, encoder=replace(embedding.encoder, name="vit-2"))
    assert not any(done.kept for done in embed(images, others))
    with pytest.raises(UserError, match=r"features of several kinds: .*features_vit-1, .*features_vit-2"):
        index_bags(embedding.folder)
    assert {entry.encoder for entry in index_bags(others.features).entries.values()} == {"vit-2"}
    smaller = replace(embedding, tile=50)
    assert [done.tiles for done in embed(images, smaller)] == [16, 16]


def test_images_that_cannot_be_used_are_named_or_skipped(
    images: dict[str, Path], embedding: Embedding, tmp_path: Path
) -> None:
    images["broken"] = tmp_path / "broken.png"
    images["broken"].write_bytes(images["image_0"].read_bytes()[:500])
    images["blank"] = tmp_path / "blank.png"
    Image.new("RGB", (300, 300), "white").save(images["blank"])
    with pytest.raises(UserError, match=r"broken\.png: .*Mend or remove it, or give --on-bad-image skip"):
        embed(images, embedding)
    done = embed(images, embedding, "skip")
    assert [image.kept for image in done] == [True, True, False, False]
    assert str(done[3].skipped).startswith("its tiles (9) show little but background")
    assert list(index_bags(embedding.folder).entries) == ["image_0", "image_1"]


def test_each_bag_is_called_like_its_image() -> None:
    paths = [Path("a/007.png"), Path("b/slide.b.jpg"), Path("x.ome.tif"), Path("photo.bmp"), Path("scan.PNG")]
    assert list(images_by_id(paths)) == ["007", "slide.b", "x", "photo", "scan"]


def test_images_of_one_name_are_refused() -> None:
    paths = [Path("a/1.png"), Path("b/1.jpg"), Path("c/2.png"), Path("d/2.png")]
    with pytest.raises(UserError, match=r"the bag 1: a/1\.png, b/1\.jpg \(2 in all\); and so for 1 other bag"):
        images_by_id(paths)


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.float16)])
def test_features_are_stored_as_precisely_as_they_are_computed(
    images: dict[str, Path], embedding: Embedding, precision: str, dtype: torch.dtype
) -> None:
    stored = replace(embedding, encoder=replace(embedding.encoder, precision=precision))
    embed(images, stored)
    bag = read_bag(index_bags(stored.folder).entries["image_0"])
    assert bag.features.dtype == dtype


def test_features_that_are_not_finite_are_refused(images: dict[str, Path], embedding: Embedding) -> None:
    def large(batch: Tensor) -> Tensor:
        return 1e6 * batch.new_ones(len(batch), 2)

    encoder = replace(embedding.encoder, encode=large)
    assert embed(images, replace(embedding, encoder=encoder))[0].tiles == 4
    half = replace(embedding, encoder=replace(encoder, name="half", precision="bf16-mixed"))
    with pytest.raises(UserError, match=r"image_0\.png: the features that half .* give --precision 32-true"):
        embed(images, half)
    assert list(half.features.iterdir()) == []


def test_images_larger_than_pillow_allows_are_read(
    images: dict[str, Path], embedding: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings(action="error"):
        assert embed(images, embedding)[0].tiles == 4
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_progress_is_told_batch_by_batch(images: dict[str, Path], embedding: Embedding) -> None:
    told: list[tuple[int, int]] = []
    list(embed_images(images, embedding, "error", "", lambda tiles, of: told.append((tiles, of))))
    assert told == [(3, 4), (1, 4)] * 2


def test_a_place_that_cannot_be_written_is_refused_first(images: dict[str, Path], embedding: Embedding) -> None:
    with pytest.raises(UserError, match=r"image_0\.png: cannot be written"):
        embed_images(images, replace(embedding, folder=images["image_0"]), "error", "")
