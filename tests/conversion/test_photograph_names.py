import itertools

import numpy as np
import pytest

from crackflow.conversion import photograph_names

ROWS = [(row, column) for row in (0, 256, 512) for column in (0, 256, 512)]
PHOTOGRAPHS = [
    "IMG_0034",
    "IMG_0035",
    "DJI_0007",
    "7001",
    "bridge 2",
    "DSC00674",
    "IMG_20240115_103045",
    "IMG_20240115_103051",
]
MANNERS = [
    *("{name}-{number}", "{name}_{row}_{column}", "{name}_{row:04d}_{column:04d}", "{name}_{row}x{column}"),
    *("{name} ({row}, {column})", "{name}_{row}_{column}_{row}_{column}", "{name}_x{column}_y{row}"),
    *("{name}-row{row}-col{column}", "{name}_r{row}c{column}", "{name}_x={column}_y={row}_w=256_h=256"),
    *("{name}-tile-{number}", "{name}_patch{number}", "{name}_Crop_{number:03d}", "{name} tile {number} of 9"),
    *("{name}_{number:02d}", "{name}p{number:02d}", "{name}.{number}", "patch_{number}_{name}", "{name}#{number}"),
    *("{name}_jpg.rf.f{number:029x}ab",),
]


def files(names, seed=0):
    """Paths in randomly drawn class folders, and their labels."""
    labels = np.random.default_rng(seed).integers(0, 2, len(names)).tolist()
    return [f"{('clean', 'cracked')[label]}/{name}.jpg" for name, label in zip(names, labels, strict=True)], labels


def photographs(names, seed=0):
    """Name -> photograph of those names that are recognised as windows."""
    paths, labels = files(names, seed)
    photograph_of = photograph_names.windows_of(paths, labels)
    return {path.split("/")[1].removesuffix(".jpg"): photograph for path, photograph in photograph_of.items()}


@pytest.mark.parametrize("manner", MANNERS)
def test_windows_of_one_photograph_are_one_whatever_their_manner_of_names(manner):
    cut = {
        manner.format(name=name, row=row, column=column, number=number): name
        for name in PHOTOGRAPHS
        for number, (row, column) in enumerate(ROWS, 1)
    }
    photograph_of = photographs(list(cut))
    assert set(photograph_of) == set(cut)
    pairs = {(cut[name], photograph) for name, photograph in photograph_of.items()}
    assert len(pairs) == len(PHOTOGRAPHS) == len({photograph for _, photograph in pairs})


def test_the_few_windows_that_somebody_kept_of_many_are_enough():
    rng = np.random.default_rng(0)
    names = [f"{7001 + n}-{k}" for n in range(5) for k in rng.permutation(240)[:4] + 1]
    assert set(photographs(names).values()) == {f"{7001 + n}" for n in range(5)}


def test_letters_after_a_number_are_windows_and_join_their_photograph():
    names = ["DSC00550", "DSC00550b", "DSC00551", "DSC00560", "DSC00560b", "DSC00560c", "DSC00701"]
    expected = {"DSC00550": "DSC00550", "DSC00550b": "DSC00550"}
    expected |= {name: "DSC00560" for name in ("DSC00560", "DSC00560b", "DSC00560c")}
    paths = [f"images/{name}.jpg" for name in names]
    photograph_of = photograph_names.windows_of(paths, [-1] * len(paths))
    assert {path[7:-4]: photograph for path, photograph in photograph_of.items()} == expected


def moments(pattern, count=600):
    """Names that contain times on four days."""
    rng = np.random.default_rng(1)
    draws = zip(*(rng.integers(low, high, count) for low, high in ((11, 15), (8, 18), (0, 60), (0, 60))), strict=True)
    return sorted({pattern.format(day, hour, minute, second) for day, hour, minute, second in draws})


PHOTOGRAPHS_OF_THEIR_OWN = {
    "plain": [f"{n:05d}" for n in range(400)],
    "plain without zeros": [f"{n}" for n in range(400)],
    "METU": [f"{n:05d}{'_1' if n > 200 else ''}" for n in range(400)],
    "IMG": [f"IMG_{n:04d}" for n in range(400)],
    "DJI": [f"DJI_{n:04d}" for n in range(400)],
    "DSC": [f"DSC{n:05d}" for n in range(400)],
    "GoPro": [f"GX01{n:04d}" for n in range(400)],
    "Kodak": [f"{100 + n // 150}_{n % 150 + 1:04d}" for n in range(400)],
    "Windows": [f"crack ({n})" for n in range(400)],
    "words": [f"crack_{n}" for n in range(400)],
    "tiles of nothing": [f"tile_{n}" for n in range(400)],
    "frames of nothing": [f"frame_{n:04d}" for n in range(400)],
    "Android": moments("IMG_202401{}_{:02d}{:02d}{:02d}"),
    "Dropbox": moments("2024-01-{} {:02d}.{:02d}.{:02d}"),
    "Telegram": moments("photo_2024-01-{}_{:02d}-{:02d}-{:02d}"),
    "WhatsApp": moments("WhatsApp Image 2024-01-{} at {:02d}.{:02d}.{:02d}"),
    "DJI of today": moments("DJI_202401{}{:02d}{:02d}{:02d}_0034_D"),
    "counted by the day": [f"202401{11 + n // 40}_{n % 40:04d}" for n in range(400)],
    "identifiers": [f"{n * 7919:08x}-{n:04x}-{n * 104729:012d}" for n in range(400)],
}


@pytest.mark.parametrize("manner", PHOTOGRAPHS_OF_THEIR_OWN)
def test_numbered_photographs_are_no_windows(manner):
    names = PHOTOGRAPHS_OF_THEIR_OWN[manner]
    assert photographs(names) == {}
    assert photograph_names.only_photograph(files(names)[0]) == ""


@pytest.mark.parametrize(("cracked", "clean"), [("Positive", "Negative"), ("1", "0"), ("crack_tile", "ok_tile")])
def test_a_name_that_tells_the_class_alone_is_no_photograph(cracked, clean):
    paths = [f"{folder}/{folder}_{n:04d}.jpg" for folder, n in itertools.product((cracked, clean), range(40))]
    assert photograph_names.windows_of(paths, [int(path.startswith(cracked)) for path in paths]) == {}


@pytest.mark.parametrize(("cracked", "clean"), [("crack", "no_crack"), ("positive", "negative"), ("image", "photo")])
def test_a_word_that_any_picture_may_be_called_by_is_no_photograph(cracked, clean):
    paths = [f"images/{word}_tile_{n}.jpg" for word, n in itertools.product((cracked, clean), range(40))]
    assert photograph_names.windows_of(paths, [-1] * len(paths)) == {}


def test_one_name_in_two_folders_is_two_photographs():
    paths = [f"{bridge}/cracked/7001-{k}.jpg" for bridge in "ab" for k in range(1, 5)]
    paths += [
        f"{bridge}/clean/7002-{k}.jpg"
        for bridge in "ab"
        for k in range(1 + 4 * (bridge == "b"), 5 + 4 * (bridge == "b"))
    ]
    photograph_of = photograph_names.windows_of(paths, [int("cracked" in path) for path in paths])
    assert len({photograph_of[path] for path in paths if "7001" in path}) == 2
    assert (
        len({photograph_of[path] for path in paths if "7002" in path}) == 1
    )  # its windows are divided between two folders


def test_windows_beside_numbered_photographs_are_told_apart():
    numbered = [f"{n:05d}" for n in range(200)]
    windows = [f"IMG_{n:04d}_{k}" for n in range(3) for k in range(9)]
    assert set(photographs(numbered + windows)) == set(windows)


@pytest.mark.parametrize("name", ["7001-{}", "wall_tile_{}"])
def test_windows_of_one_photograph_alone_are_said_to_be(name):
    paths, labels = files([name.format(n) for n in range(1, 60)])
    assert photograph_names.windows_of(paths, labels) == {}
    assert photograph_names.only_photograph(paths) == name.rstrip("-_{}").removesuffix("_tile")


@pytest.mark.parametrize("form", ["wall3_tile_{0}{1}", "IMG_0034_{0}_{1}", "IMG_0034_{2}_{3}", "wall 2_x{2}_y{3}"])
def test_windows_of_the_only_tiled_photograph_of_several_are_one(form):
    windows = [form.format(row, column, 256 * row, 256 * column) for row in range(4) for column in range(3)]
    others = [f"DSC{n:05d}" for n in range(30)]
    photograph_of = photographs(windows + others)
    assert set(photograph_of) == set(windows) and len(set(photograph_of.values())) == 1


@pytest.mark.parametrize("form", ["IMG_2024_{0:04d}", "site 7_{0}", "100_{0:04d}"])
def test_photographs_numbered_after_one_name_are_no_windows(form):
    assert photographs([form.format(n) for n in range(12)] + [f"DSC{n:05d}" for n in range(30)]) == {}


def test_names_of_any_characters_are_read():
    names = ["", ".", "-", "7001-", "\n-1", "@-1", "(((", "1" * 200, "裂缝-1", "x" * 200]
    assert photographs(names) == {}
