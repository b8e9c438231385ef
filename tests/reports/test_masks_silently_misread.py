"""Masks that are drawn otherwise than white on black are refused, each with its reason, and mislabel nothing."""

import io

import numpy as np
import pytest
from PIL import Image

from crackflow.core import errors
from crackflow.core.errors import UserError
from crackflow.data import image_file, mask_tiles
from tests.helpers import support

NAME = "03-masks-silently-misread"


def test_inverted_masks_among_others_are_listed_and_no_window_is_mislabelled(report, tmp_path):
    support.converted(report(NAME) / "m_mixinv", tmp_path / "o", split=(1.0, 0.0, 0.0))
    reasons = {row["path"]: row["reason"] for row in support.rows(tmp_path / "o", "rejected.csv")}
    for name in ("001", "003", "005"):
        expected = (
            f"its mask 'masks/{name}.png' is white in 98 % of the picture: expected white, 255, where there is crack"
        )
        assert reasons[f"images/{name}.jpg"].startswith(expected)
    rows = support.rows(tmp_path / "o", "groups.csv")
    assert {row["path"][:10] for row in rows} == {"images/000", "images/002", "images/004"}
    assert {row["path"][:10] for row in rows if row["label"] == "1"} == {"images/002"}


@pytest.mark.parametrize(
    "folder, reason",
    [
        ("m_col", r"'images/000.jpg': its mask 'masks/000.png' has colours \(rgb\(0, 255, 0\)\), as masks of several "),
        ("m_multi", "'images/000.jpg': its mask 'masks/000.png' has areas of the value 85, neither black nor white"),
    ],
)
def test_masks_of_several_classes_end_with_the_first_reason(report, tmp_path, folder, reason):
    with pytest.raises(UserError, match=f"[0-9]+ of [0-9]+ rejected, such as {reason}"):
        support.converted(report(NAME) / folder, tmp_path / "o")


def test_when_all_masks_are_inverted_the_one_line_says_so(report, tmp_path):
    folder = report(NAME) / "m_mixinv"
    for path in sorted((folder / "masks").iterdir()):
        values = np.asarray(Image.open(path))
        if values.mean() < 128:
            Image.fromarray(255 - values).save(path)
    done = support.called("convert", f"--images={folder}", f"--out={tmp_path / 'o'}", "--workers=1")
    support.expect_one_line(
        done,
        2,
        "6 of 6 rejected, such as 'images/000.jpg': its mask 'masks/000.png' is white in 100 % of the picture",
        "invert it",
    )


def crack(value=255, ground=0, width=4):
    mask = np.full((64, 64), ground, np.uint8)
    mask[20 : 20 + width] = value
    return mask


def png(values, mode=None, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(buffer, "PNG", **options)
    return buffer.getvalue()


def layer(colour, ground=(0, 0, 0, 0)):
    """A crack of `colour` on a layer that is `ground` elsewhere."""
    values = np.full((64, 64, 4), ground, np.uint8)
    values[20:24] = colour
    return png(values)


def palette(colours):
    image = Image.fromarray((crack(1) > 0).astype(np.uint8), "P")
    image.putpalette(colours)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def void():
    mask = crack(1)
    mask[40:60] = 255
    return mask


def thin_classes():
    mask = crack(width=1)
    mask[40:42], mask[50:52] = 170, 85
    return mask


DRAWN_OTHERWISE = {
    "black on transparent": (layer((0, 0, 0, 255)), "is black where it is not transparent: expected white"),
    "black on transparent white": (layer((0, 0, 0, 255), (255, 255, 255, 0)), "is black where it is not transparent"),
    "green": (layer((0, 255, 0, 255)), r"has colours \(rgb\(0, 255, 0\)\)"),
    "a palette": (palette([0, 0, 0, 255, 255, 0]), r"has colours \(rgb\(255, 255, 0\)\)"),
    "1 bit, inverted": (png(255 - crack(), "1"), "is white in 94 % of the picture"),
    "16 bits, inverted": (png((255 - crack()).astype(np.uint16) * 257), "is white in 94 % of the picture"),
    "dark on light": (png(crack(40, 210)), "is white in 94 % of the picture"),
    "white alone": (png(crack(255, 255)), "is white in 100 % of the picture"),
    "0, 1 and 255": (png(void()), "has areas of the value 1, neither black nor white"),
    "thin lines of classes": (png(thin_classes()), "has areas of the value 85|has areas of the value 170"),
    "classes as JPEG": (
        support.encoded(
            np.dstack([np.where(crack(width=12) > 0, 160, np.rot90(crack(width=12)))] * 3).astype(np.uint8)
        ),
        "has areas of the value 1[56]",
    ),
    "16 bits of class numbers": (png(crack(1).astype(np.uint16)), "has no value above 1: expected white"),
}


def read(tmp_path, data, photo=None):
    support.put(tmp_path / "mask.png", data)
    photo = support.encoded(support.picture(0) if photo is None else photo, "PNG")
    return mask_tiles.read_mask(str(tmp_path), "mask.png", image_file.parse_photo(photo, "photo.png", 1.0), 1.0)


@pytest.mark.parametrize("kind", DRAWN_OTHERWISE)
def test_masks_drawn_otherwise_are_refused_with_the_reason(tmp_path, kind):
    data, reason = DRAWN_OTHERWISE[kind]
    with pytest.raises(errors.ImageError, match=f"^its mask 'mask.png' ({reason})"):
        read(tmp_path, data)


def soft():
    """A crack with edges of 8 pixels."""
    across = np.clip(255 - 32 * np.abs(np.arange(64) - 30), 0, 255)
    return np.repeat(across[:, None], 64, 1).astype(np.uint8)


MEANT_SO = {
    "white on transparent": layer((255, 255, 255, 255)),
    "soft edges": png(soft()),
    "a palette of black and white": palette([0, 0, 0, 255, 255, 255]),
    "1 bit": png(crack(), "1"),
    "16 bits": png(crack().astype(np.uint16) * 257),
    "16 bits to 255": png(crack().astype(np.uint16)),
    "JPEG of low quality": support.encoded(np.dstack([crack()] * 3), quality=25),
}


@pytest.mark.parametrize("kind", MEANT_SO)
def test_masks_of_every_encoding_that_are_white_on_black_are_taken(tmp_path, kind):
    mask = read(tmp_path, MEANT_SO[kind]) > mask_tiles.CRACK_ABOVE
    assert mask[20:24].all() or mask[28:32].all()
    assert mask.mean() < 0.2


def test_a_crack_from_close_by_that_fills_most_of_the_picture_is_taken(tmp_path):
    mask, photo = crack(width=44), np.full((64, 64, 3), 180, np.uint8)
    photo[20:64] = 40
    assert (read(tmp_path, png(mask), photo) > mask_tiles.CRACK_ABOVE).mean() > 0.6
    with pytest.raises(errors.ImageError, match="is white in 69 % of the picture: expected white"):
        read(tmp_path, png(mask), 220 - photo)


def test_a_picture_of_the_cracked_class_with_an_empty_mask_is_listed(tmp_path):
    support.photos(tmp_path / "p", 12)
    for number in range(1, 12, 2):
        values = crack() if number > 1 else np.zeros((64, 64), np.uint8)
        support.put(tmp_path / f"p/masks/{number:05d}.png", png(values))
    support.converted(tmp_path / "p", tmp_path / "o", split=(1.0, 0.0, 0.0))
    [row] = support.rows(tmp_path / "o", "rejected.csv")
    assert row["path"] == "Positive/00001.jpg"
    assert row["reason"].startswith("its mask 'masks/00001.png' has no crack, and its folder says that it is cracked")


def test_no_real_mask_is_refused(real_data):
    for name in ("deepcrack", "cfd", "uav75"):
        root = real_data(name)
        photos = {path.stem: path for path in (root / "images").iterdir()}
        for path in sorted((root / "masks").iterdir())[::9]:
            photo = image_file.open_photo(str(photos[path.stem]), 100)
            assert mask_tiles.read_mask(str(root / "masks"), path.name, photo, 100).any()
