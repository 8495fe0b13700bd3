"""Image data: what is loaded, how it is split, what bad files say."""

import gzip
import io
import itertools
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from stillhouse.core.errors import UserError
from stillhouse.vision.images import (
    CELL_PIXELS,
    GAP_PIXELS,
    ImageData,
    captions,
    grid,
    load_images,
    save_grid,
    split,
)
from stillhouse.vision.public_images import read_idx


def picture(path, size=(16, 16), colour=128, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


def numbered(count, classes):
    """Images that carry their own number in every pixel."""
    images = torch.linspace(-1, 1, count).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    return ImageData("numbered", images, torch.arange(count) % classes, tuple("abcdefgh"[:classes]))


@pytest.mark.parametrize(("name", "count", "size"), [("digits", 1797, 8), ("mnist-5k", 5000, 28)])
def test_built_in_sets_are_whole_and_scaled(name, count, size):
    data = load_images(name)
    assert (len(data), data.channels, data.size, data.classes) == (count, 1, size, 10)
    assert data.images.dtype == torch.float32 and data.images.min() == -1 and data.images.max() == 1
    assert captions(data)[7] == "a photo of the digit seven"


def test_resizing_and_colour():
    data = load_images("digits", size=16, channels=3)
    assert data.images.shape[1:] == (3, 16, 16)
    assert torch.equal(data.images[:, 0], data.images[:, 2])
    plain = load_images("digits")
    halved = torch.nn.functional.avg_pool2d(data.images[:, :1], 2)
    assert (halved - plain.images).abs().mean() < 0.15


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_public_sets_are_found(name, public_data):
    data = load_images(name)
    assert len(data) == 70_000 and data.labels.bincount().tolist()[9] > 6000 and data.images.max() == 1


def test_public_files_unpacked_or_packed_read_the_same(tmp_path):
    content = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4) for n in (2, 3, 4)) + bytes(range(24))
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    assert read_idx(tmp_path / "a").tolist() == np.arange(24).reshape(2, 3, 4).tolist()
    assert (read_idx(tmp_path / "a.gz") == read_idx(tmp_path / "a")).all()


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:2], lambda c: b"", lambda c: b"\0\0\x0d" + c[3:]])
def test_damaged_public_file_is_named(tmp_path, damage):
    content = bytes([0, 0, 8, 1]) + (4).to_bytes(4) + bytes(4)
    path = tmp_path / "labels"
    path.write_bytes(damage(content))
    with pytest.raises(UserError, match="labels is not a whole IDX file"):
        read_idx(path)


def test_missing_public_set_says_what_to_fetch(monkeypatch, tmp_path):
    monkeypatch.setenv("STILLHOUSE_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz.*sha256 b0564c3e"):
        load_images("fashion-mnist")


def test_split_is_disjoint_complete_stratified_and_repeatable():
    data = numbered(103, 4)
    parts = split(data, seed=3)
    values = [part.images[:, 0, 0, 0].tolist() for part in (parts.train, parts.select, parts.report)]
    assert sorted(itertools.chain(*values)) == sorted(data.images[:, 0, 0, 0].tolist())
    assert parts.train.labels.bincount().tolist() == [16, 16, 16, 15]
    assert parts.select.labels.bincount().tolist() == [4, 4, 4, 4]
    assert parts.report.labels.bincount().tolist() == [6, 6, 6, 6]
    assert parts.train.content_hash == split(data, seed=3).train.content_hash != split(data, seed=4).train.content_hash
    # labels stay with their images
    number = {float(image[0, 0, 0]): int(label) for image, label in zip(data.images, data.labels, strict=True)}
    assert [number[float(i[0, 0, 0])] for i in parts.report.images] == parts.report.labels.tolist()


def test_smallest_class_reaches_every_split_and_a_smaller_one_is_refused():
    parts = split(numbered(8, 2), seed=0)
    assert [part.labels.bincount().tolist() for part in (parts.train, parts.select, parts.report)] == [
        [2, 2],
        [1, 1],
        [1, 1],
    ]
    with pytest.raises(UserError, match="class 'b' of numbered has 3 images"):
        split(numbered(7, 2), seed=0)


def test_content_hash_changes_with_pixels_labels_and_names_only():
    data = numbered(8, 2)
    same = ImageData("other name", data.images.clone(), data.labels.clone(), data.class_names)
    pixel, label = data.images.clone(), data.labels.clone()
    pixel[3, 0, 2, 2] += 1e-3
    label[0] = 1
    changed = [
        ImageData("x", pixel, data.labels, data.class_names),
        ImageData("x", data.images, label, data.class_names),
        ImageData("x", data.images, data.labels, ("a", "c")),
    ]
    assert same.content_hash == data.content_hash
    assert len({data.content_hash, *(each.content_hash for each in changed)}) == 4


def test_folder_of_classes(tmp_path):
    for index in range(3):
        picture(tmp_path / "apple" / f"{index}.png", (19, 30), 255)
    picture(tmp_path / "pear" / "deep" / "x.JPG", (40, 17), 0)
    (tmp_path / "pear" / "notes.txt").write_text("not an image")
    data = load_images(str(tmp_path))
    assert data.images.shape == (4, 1, 16, 16) and data.class_names == ("apple", "pear")
    assert data.labels.tolist() == [0, 0, 0, 1]
    assert data.images[:3].min() == 1 and data.images[3].max() == -1
    assert captions(data) == ("a photo of an apple", "a photo of a pear")


def test_flat_folder_is_one_class_and_large_images_become_64(tmp_path):
    picture(tmp_path / "owls" / "a.webp", (300, 200), (255, 0, 0), "RGB")
    data = load_images(str(tmp_path / "owls"))
    assert data.images.shape == (1, 3, 64, 64) and data.class_names == ("owls",)
    assert load_images(str(tmp_path / "owls"), size=12, channels=1).images.shape == (1, 1, 12, 12)


def test_images_are_cropped_at_their_centre(tmp_path):
    image = Image.new("L", (32, 8), 0)
    image.paste(255, (12, 0, 20, 8))
    image.save(tmp_path / "a.png")
    assert load_images(str(tmp_path)).images.min() == 1
    np.savez(tmp_path / "a.npz", images=np.asarray(image)[None])
    assert load_images(str(tmp_path / "a.npz")).images.min() == 1


def test_transparent_and_16_bit_and_turned_images(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert load_images(str(tmp_path)).images.min() == 1
    (tmp_path / "clear.png").unlink()
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "wide.png")
    assert torch.allclose(load_images(str(tmp_path)).images, torch.tensor(155 / 127.5 - 1), atol=1e-6)
    (tmp_path / "wide.png").unlink()
    turned = Image.new("L", (8, 8), 0)
    turned.paste(255, (0, 0, 8, 4))  # white above, and to be turned by 180 degrees
    exif = Image.Exif()
    exif[0x0112] = 3
    turned.save(tmp_path / "turned.png", exif=exif)
    pixels = load_images(str(tmp_path)).images[0, 0]
    assert pixels[0].max() == -1 and pixels[7].min() == 1


def test_npz_layouts_and_labels(tmp_path):
    bytes_ = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    path = tmp_path / "a.npz"
    np.savez(path, images=bytes_, labels=np.array(["cat", "dog", "cat", "ant", "dog", "cat"]))
    data = load_images(str(path))
    assert data.class_names == ("ant", "cat", "dog") and data.labels.tolist() == [1, 2, 1, 0, 2, 1]
    assert torch.allclose(data.images, torch.from_numpy(bytes_.transpose(0, 3, 1, 2)) / 127.5 - 1)
    np.savez(path, images=bytes_.transpose(0, 3, 1, 2) / 255)
    unlabelled = load_images(str(path))
    assert torch.allclose(unlabelled.images, data.images, atol=1e-6) and unlabelled.class_names == ("image",)
    np.savez(path, images=bytes_[..., 0] / 127.5 - 1)
    assert torch.allclose(load_images(str(path)).images, data.images[:, :1], atol=1e-6)


def with_nan():
    images = np.zeros((5, 8, 8), np.float32)
    images[3, 2, 2] = np.nan
    return images


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((4, 8, 8))}, "no array 'images'; rename one of"),
        ({"images": with_nan()}, "image 3 of .* has pixels that are not finite"),
        ({"images": np.full((4, 8, 8), 255.0)}, "range from 255 to 255"),
        ({"images": np.zeros((4, 8, 8), np.int64)}, "are int64"),
        ({"images": np.zeros((4, 8, 8, 2))}, r"have shape \(4, 8, 8, 2\)"),
        ({"images": np.zeros((0, 8, 8))}, "holds no images"),
        ({"images": np.zeros((4, 6, 6))}, "a side of 6 pixels"),
        ({"images": np.zeros((4, 8, 8)), "labels": np.zeros(3)}, r"labels of shape \(3,\) for 4 images"),
        ({"images": np.array([{}])}, "cannot be read"),
    ],
)
def test_bad_npz_is_told(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UserError, match=message):
        load_images(str(tmp_path / "bad.npz"))


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_truncated_npz_is_told(tmp_path, kept):
    np.savez(tmp_path / "bad.npz", images=np.zeros((4, 8, 8)))
    content = (tmp_path / "bad.npz").read_bytes()
    (tmp_path / "bad.npz").write_bytes(content[:kept])
    with pytest.raises(UserError, match=r"bad.npz cannot be read"):
        load_images(str(tmp_path / "bad.npz"))


def test_damaged_archive_member_is_told(tmp_path):
    np.savez_compressed(tmp_path / "bad.npz", images=np.random.default_rng(0).random((4, 8, 8)))
    content = bytearray((tmp_path / "bad.npz").read_bytes())
    content[300:320] = bytes(20)
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"bad.npz cannot be read"):
        load_images(str(tmp_path / "bad.npz"))


def test_bad_folders_are_told(tmp_path):
    with pytest.raises(UserError, match="no images at nowhere; name a folder"):
        load_images("nowhere")
    with pytest.raises(UserError, match="no images in"):
        load_images(str(tmp_path))
    picture(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match=r"class folder .*b has no images"):
        load_images(str(tmp_path))
    picture(tmp_path / "b" / "2.png", mode="RGB", colour=(1, 2, 3))
    with pytest.raises(UserError, match=r"mixes grey images \(1.png\) and colour images \(2.png\)"):
        load_images(str(tmp_path))
    assert load_images(str(tmp_path), channels=3).channels == 3
    picture(tmp_path / "stray.png")
    with pytest.raises(UserError, match=r"stray.png\) beside class folders"):
        load_images(str(tmp_path))


def noise_png():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"hello", noise_png()[:40], noise_png()[:500], noise_png()[:-300]])
def test_undecodable_image_is_named(tmp_path, content):
    picture(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(UserError, match=r"bad.png cannot be decoded"):
        load_images(str(tmp_path))


def test_tiny_and_absurdly_large_images_are_told(tmp_path, monkeypatch):
    path = picture(tmp_path / "a.png", (7, 20))
    with pytest.raises(UserError, match="a side of 7 pixels"):
        load_images(str(tmp_path))
    picture(path, (20, 20))
    for limit in (300, 100):  # a warning and an error of Pillow's
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UserError, match=rf"a.png has more than {limit} pixels"):
            load_images(str(tmp_path))


@pytest.mark.parametrize("wrong", [{"size": 10}, {"size": 4}, {"size": -8}, {"channels": 2}])
def test_wrong_options_are_told(wrong):
    with pytest.raises(UserError, match="choose"):
        load_images("digits", **wrong)
    with pytest.raises(UserError, match="neither a folder nor"):
        load_images(__file__)


def test_grid_shows_each_image_in_its_cell(tmp_path):
    images = torch.stack([torch.full((1, 8, 8), value) for value in (-1.0, 1.0, 3.0, float("nan"))])
    sheet = grid(images, columns=3)
    assert sheet.size == (3 * CELL_PIXELS + 2 * GAP_PIXELS, 2 * CELL_PIXELS + GAP_PIXELS)
    step = CELL_PIXELS + GAP_PIXELS
    centres = [sheet.getpixel((24 + step * column, 24 + step * row))[0] for row in (0, 1) for column in (0, 1, 2)]
    assert centres == [0, 255, 255, 0, 128, 128]
    save_grid(images.expand(-1, 3, -1, -1), 2, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as saved:
        assert saved.size[0] == 2 * CELL_PIXELS + GAP_PIXELS


def test_zip_that_is_no_npz(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("images.npy", b"nonsense")
    with pytest.raises(UserError, match=r"bad.npz cannot be read"):
        load_images(str(tmp_path / "bad.npz"))
