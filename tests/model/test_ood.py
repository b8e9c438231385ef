import h5py
import numpy as np
import pytest
from scipy.spatial import distance

from crackflow.core.config.network import Network
from crackflow.model import networks, ood
from tests import small, support


def gaussian(count, seed=0, width=6):
    spread = np.linspace(0.5, 3, width)
    return (np.random.default_rng(seed).normal(size=(count, width)) * spread + 10).astype(np.float32)


def test_with_all_directions_it_is_the_distance_of_mahalanobis():
    training = gaussian(500)
    known = ood.fit(training, training)
    inverse = np.linalg.inv(np.cov(training.astype(np.float64).T))
    points = gaussian(5, seed=1)
    expected = [distance.mahalanobis(one, training.mean(0), inverse) / np.sqrt(6) for one in points]
    np.testing.assert_allclose(known.distances(points), expected, rtol=1e-4)


def test_the_usual_distance_is_about_one_whatever_the_width():
    for width in (4, 40, 150):
        known = ood.fit(gaussian(2000, width=width), gaussian(500, 1, width))
        assert 0.8 < np.median(known.distances(gaussian(500, 2, width))) < 1.1
        assert known.limit > 1


def test_one_in_a_hundred_of_the_validation_images_lies_beyond_the_limit():
    validation = gaussian(1000, seed=1)
    known = ood.fit(gaussian(2000), validation, seed=20261129135300)  # a date is a seed too
    assert (known.distances(validation) > known.limit).sum() == 10


def test_what_lies_off_the_plane_of_training_is_far():
    flat = np.zeros((100, 80), np.float32)
    flat[:, :3] = gaussian(100, width=3)
    known = ood.fit(flat, flat)
    away = flat[:5].copy()
    away[:, 70] = 1.0
    assert (known.distances(away) > 10 * known.limit).all()
    assert np.isfinite(known.distances(away)).all()


def test_it_comes_back_from_a_file(tmp_path):
    known = ood.fit(gaussian(200), gaussian(100, 1))
    with h5py.File(tmp_path / "model.h5", "w") as file:
        known.write(file)
    with h5py.File(tmp_path / "model.h5") as file:
        back = ood.OutOfDistributionDetector.read(file)
    points = gaussian(10, seed=3)
    np.testing.assert_allclose(back.distances(points), known.distances(points), rtol=1e-5)
    assert back.limit == pytest.approx(known.limit)


def test_a_file_without_it_gives_none_and_a_damaged_one_an_error(tmp_path):
    with h5py.File(tmp_path / "model.h5", "w") as file:
        assert ood.OutOfDistributionDetector.read(file) is None
        ood.fit(gaussian(200), gaussian(100, 1)).write(file)
        file[ood.GROUP]["spreads"][0] = 0.0
        with pytest.raises(ValueError, match="its record of the training images is damaged"):
            ood.OutOfDistributionDetector.read(file)


@pytest.mark.parametrize("name", list(Network))
def test_any_network_has_looks(name):
    recipe = networks.NETWORKS[name]
    looks = ood.FeatureStatistics(small.network(name))
    pictures = np.stack([support.picture(one) for one in range(3)])[..., : recipe.channels]
    found = looks(pictures)
    assert found.shape[0] == 3 and np.isfinite(found).all()
    assert not np.allclose(found[0], found[1])
    np.testing.assert_allclose(looks(pictures[:1]), found[:1], atol=1e-5)


def test_noise_is_unlike_soft_pictures():
    looks = ood.FeatureStatistics(networks.NETWORKS[Network.CRACKFLOW_S].build(64))
    soft = looks(np.stack([support.picture(one) for one in range(200)]))
    noise = looks(np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8))
    known = ood.fit(soft[:150], soft[150:])
    assert (known.distances(noise) > known.limit).all()
