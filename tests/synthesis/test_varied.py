import numpy as np
import pytest

from crackflow.synthesis import concrete, cracks, varied
from tests.helpers import small

PX = 64


@pytest.fixture(scope="module")
def many():
    return [varied.draw_example(5, index, PX, small.data(image_px=128).folder) for index in range(160)]


def test_odd_indices_are_cracked_and_even_ones_are_not(many):
    for index, example in enumerate(many):
        assert example.image.shape == (PX, PX, 3) and example.image.dtype == np.uint8
        assert example.mask.shape == (PX, PX) and set(np.unique(example.mask)) <= {0, 255}
        assert example.label == index % 2 == int(example.mask.any())


def test_every_crack_is_large_and_dark_enough_to_be_called_one(many):
    shares = [(example.mask > 0).mean() for example in many[1::2]]
    assert min(shares) >= varied.MIN_SHARE > 0.005


def test_cracks_lie_in_corners_too(many):
    middle = np.zeros((PX, PX), bool)
    middle[PX // 4 : -PX // 4, PX // 4 : -PX // 4] = True
    aside = [not (example.mask > 0)[middle].any() for example in many[1::2]]
    assert 0.02 < np.mean(aside) < 0.5
    centred = [not (concrete.draw_example(5, index, PX).mask > 0)[middle].any() for index in range(1, 160, 2)]
    assert np.mean(centred) < np.mean(aside)


def test_the_same_seed_and_index_give_the_same_example_with_and_without_donors():
    for folder in ("", small.data(image_px=128).folder):
        for index in (2, 3):
            first, again = (varied.draw_example(7, index, PX, folder) for _ in range(2))
            assert np.array_equal(first.image, again.image) and np.array_equal(first.mask, again.mask)
            assert not np.array_equal(first.image, varied.draw_example(8, index, PX, folder).image)


def test_pictures_of_both_classes_are_alike_in_all_but_the_crack(many):
    statistics = {"brightness": np.mean, "deviation": np.std, "darkest": np.min, "lightest": np.max}
    for statistic in statistics.values():
        clean, cracked = (np.array([statistic(example.image) for example in many[side::2]], float) for side in (0, 1))
        together = np.concatenate([clean, cracked])
        order = together.argsort().argsort()
        area = (order[: len(clean)].sum() - len(clean) * (len(clean) - 1) / 2) / len(clean) / len(cracked)
        assert 0.3 < area < 0.75  # of the ROC curve of one number


def test_it_varies_more_than_the_imitation_of_metu(many):
    imitated = [concrete.draw_example(5, index, PX) for index in range(100)]

    def spread(examples):
        return np.std([example.image.mean(axis=(0, 1)) for example in examples], axis=0).mean()

    assert spread(many) > 1.2 * spread(imitated)


def test_what_can_not_be_seen_is_drawn_anew(monkeypatch):
    seen = iter([False] * 12 + [True])
    monkeypatch.setattr(varied, "is_visible", lambda image, mask, faint: next(seen))
    assert varied.draw_example(0, 1, 32).label == 1
    assert next(seen, None) is None


def test_faint_cracks_are_thinner_and_paler():
    def drawn(faint):
        return [varied.draw_crack(np.random.default_rng(seed), PX, 100.0, 0.0, faint) for seed in range(120)]

    plain, faint = drawn(False), drawn(True)
    areas = [np.median([(crack.mask > 0).mean() for crack in some]) for some in (faint, plain)]
    assert areas[0] < areas[1]
    assert np.mean([crack.inside for crack in faint]) > np.mean([crack.inside for crack in plain])


def test_a_faint_crack_may_be_fainter_than_others_but_not_without_end():
    image, mask = np.full((32, 32, 3), 100, np.uint8), np.zeros((32, 32), np.uint8)
    mask[:, 15:17] = 255
    for level, visible in ((91, (False, True)), (95, (False, False)), (80, (True, True))):
        image[:, 15:17] = level
        assert tuple(varied.is_visible(image, mask, faint) for faint in (False, True)) == visible


def test_a_net_has_many_edges_and_stays_near_the_picture():
    nets = [varied._draw_net(np.random.default_rng(seed), PX, 2.0, 0.4) for seed in range(10)]
    assert np.mean([len(net) for net in nets]) > 5
    assert all(np.abs(stroke.left).max() < 6 * PX for net in nets for stroke in net)
    assert all(cracks.rasterise(net, PX).any() for net in nets)


def test_a_compressed_and_grey_picture_has_one_channel_in_three():
    surface = varied.materials.draw_material(np.random.default_rng(2), PX, 150)
    camera = varied.draw_camera(np.random.default_rng(2), surface)
    grey = varied._develop(surface, camera, grey=True, compressed=False)
    assert np.ptp(grey.astype(int), axis=2).max() == 0
    plain, compressed = (varied._develop(surface, camera, False, is_compressed) for is_compressed in (False, True))
    assert 0 < np.abs(plain.astype(int) - compressed).mean() < 12
