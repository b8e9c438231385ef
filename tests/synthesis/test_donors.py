import copy

import numpy as np
import pytest

from crackflow.core.errors import UserError
from crackflow.synthesis import concrete, donors
from tests.helpers import small

PX = 64


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def source_donors():
    return donors.Donors(small.data(image_px=128).folder)


def photograph(line=True):
    rng = generator(1)
    photo = rng.normal(150, 6, (227, 227))
    if line:
        for row in range(20, 200):
            photo[row, 100 + row // 9 : 105 + row // 9] *= 0.4
    return np.repeat(photo.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_a_dark_line_is_taken_out_with_its_place_and_its_darkness():
    ratio, mask = donors.extract_crack(photograph())
    assert ratio.shape == mask.shape == (227, 227) and ratio.dtype == mask.dtype == np.float32
    line = np.zeros((227, 227), bool)
    for row in range(20, 200):
        line[row, 100 + row // 9 : 105 + row // 9] = True
    assert mask[line].mean() > 0.95 and mask[~line].mean() < 0.02
    assert 0.3 < ratio[line].mean() < 0.6
    assert np.all(ratio[np.roll(mask, 40, axis=1) > 0] > 0.99)


def test_nothing_is_taken_from_what_has_no_line():
    assert donors.extract_crack(photograph(line=False)) is None
    blot = photograph(line=False)
    blot[60:110, 60:110] //= 3
    assert donors.extract_crack(blot) is None


def test_masks_of_synthetic_cracks_are_found_again():
    shares = []
    for index in range(1, 60, 2):
        example = concrete.draw_example(3, index, 227)
        crack = donors.extract_crack(example.image)
        if crack and (example.mask > 0).mean() > 0.01:
            shares.append((crack[1] * (example.mask > 0)).sum() / crack[1].sum())
    assert len(shares) > 12 and np.median(shares) > 0.6


def test_grounds_and_cracks_are_lent_at_any_size(source_donors):
    for image_px in (32, PX, 200):
        ground, crack = (
            source_donors.ground(generator(image_px), image_px),
            source_donors.crack(generator(image_px), image_px, 0.5),
        )
        assert ground.tone.shape == (image_px, image_px) and ground.colour.shape == (3, image_px, image_px)
        assert ground.tone.min() >= 0.02 and ground.tone.max() <= 2
        assert crack.shade.shape == crack.mask.shape == (image_px, image_px)
        assert 0 <= crack.shade.min() and crack.shade.max() <= 1
        assert set(np.unique(crack.mask)) <= {0, 255}


def test_a_lent_crack_darkens_where_its_mask_is(source_donors):
    cracks = [source_donors.crack(generator(seed), PX, 0.5) for seed in range(20)]
    inside = np.mean([crack.shade[crack.mask > 0].mean() for crack in cracks if crack.mask.any()])
    outside = np.mean([crack.shade[crack.mask == 0].mean() for crack in cracks])
    assert inside > 0.2 > 5 * outside


def test_faint_cracks_darken_less(source_donors):
    shades = [
        np.mean([source_donors.crack(generator(seed), PX, 0.0, faint).shade.max() for seed in range(20)])
        for faint in (True, False)
    ]
    assert shades[0] < shades[1]


def test_only_the_training_split_lends(source_donors, monkeypatch):
    splits = []
    original = donors.record_reader.RecordReader.__init__

    def recording(self, dataset, split):
        splits.append(split)
        original(self, dataset, split)

    monkeypatch.setattr(donors.record_reader.RecordReader, "__init__", recording)
    donors.Donors(small.data(image_px=128).folder)
    assert splits == ["train"]


def test_donors_are_opened_once_and_none_is_none():
    folder = small.data(image_px=128).folder
    assert donors.open_donors("") is None and donors.fingerprint("") == ""
    assert donors.open_donors(folder) is donors.open_donors(folder)
    assert donors.fingerprint(folder) == small.data(image_px=128).metadata["fingerprint"]


def test_raw_records_are_refused():
    with pytest.raises(UserError, match="expected records in jpeg or png, received raw"):
        donors.Donors(small.data("raw").folder)


def test_images_without_any_line_are_told(source_donors, monkeypatch):
    monkeypatch.setattr(donors, "extract_crack", lambda photo: None)
    with pytest.raises(UserError, match="no dark, thin line was found in 100 cracked images"):
        source_donors.crack(generator(), PX, 0.0)


@pytest.mark.parametrize("label", [0, 1])
def test_images_of_a_rare_class_are_drawn_as_well(monkeypatch, label):
    rare = donors.Donors(small.data(image_px=128).folder)
    fetch, drawn = rare._rows.fetch, []

    def mostly_the_other_class(row):
        data, own = fetch(row)
        drawn.append(row)
        return data, own if row == rows[0] else 1 - label

    rows = [row for row in range(rare._rows.count) if fetch(row)[1] == label]
    monkeypatch.setattr(rare._rows, "fetch", mostly_the_other_class)
    monkeypatch.setattr(donors, "MAX_DRAWS", 0)  # none of the quick draws hits it
    photo = rare._draw_photo(generator(), label)
    assert photo.shape == (128, 128, 3) and drawn[-1] == rows[0]
    assert rare._list_rows(label) == [rows[0]]


def test_a_data_set_of_one_class_is_refused(monkeypatch):
    facts = copy.deepcopy(small.data(image_px=128).metadata)
    facts["splits"]["train"]["class_counts"]["Positive"] = 0
    one_class = donors.dataset_io.Dataset(small.data(image_px=128).folder, facts)
    monkeypatch.setattr(donors.dataset_io, "load", lambda folder: one_class)
    with pytest.raises(UserError, match="expected both classes in the training split, received"):
        donors.Donors("anywhere")
