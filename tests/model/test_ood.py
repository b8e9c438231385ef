import h5py
import numpy as np
import pytest
from scipy.spatial import distance

from crackflow.core.config.network import Network
from crackflow.model import networks, ood
from tests.helpers import small, support


def gaussian(count, seed=0, width=6):
    spread = np.linspace(0.5, 3, width)
    return (np.random.default_rng(seed).normal(size=(count, width)) * spread + 10).astype(np.float32)


def test_with_all_directions_it_is_the_distance_of_mahalanobis():
    training = gaussian(500)
    detector = ood.fit(training, training)
    inverse = np.linalg.inv(np.cov(training.astype(np.float64).T))
    points = gaussian(5, seed=1)
    expected = [distance.mahalanobis(point, training.mean(0), inverse) / np.sqrt(6) for point in points]
    np.testing.assert_allclose(detector.distances(points), expected, rtol=1e-4)


def test_the_usual_distance_is_about_one_whatever_the_width():
    for width in (4, 40, 150):
        detector = ood.fit(gaussian(2000, width=width), gaussian(500, 1, width))
        assert 0.8 < np.median(detector.distances(gaussian(500, 2, width))) < 1.1
        assert detector.limit > 1


def test_one_in_a_hundred_of_the_validation_images_lies_beyond_the_limit():
    validation = gaussian(1000, seed=1)
    detector = ood.fit(gaussian(2000), validation, seed=20261129135300)  # a date is a seed too
    assert (detector.distances(validation) > detector.limit).sum() == 10


def test_what_lies_off_the_plane_of_training_is_far():
    flat = np.zeros((100, 80), np.float32)
    flat[:, :3] = gaussian(100, width=3)
    detector = ood.fit(flat, flat)
    away = flat[:5].copy()
    away[:, 70] = 1.0
    assert (detector.distances(away) > 10 * detector.limit).all()
    assert np.isfinite(detector.distances(away)).all()


def test_it_comes_back_from_a_file(tmp_path):
    detector = ood.fit(gaussian(200), gaussian(100, 1))
    with h5py.File(tmp_path / "model.h5", "w") as file:
        detector.write(file)
    with h5py.File(tmp_path / "model.h5") as file:
        back = ood.OutOfDistributionDetector.read(file)
    points = gaussian(10, seed=3)
    np.testing.assert_allclose(back.distances(points), detector.distances(points), rtol=1e-5)
    assert back.limit == pytest.approx(detector.limit)


def test_a_file_without_it_gives_none_and_a_damaged_one_an_error(tmp_path):
    with h5py.File(tmp_path / "model.h5", "w") as file:
        assert ood.OutOfDistributionDetector.read(file) is None
        ood.fit(gaussian(200), gaussian(100, 1)).write(file)
        file[ood.GROUP]["spreads"][0] = 0.0
        with pytest.raises(ValueError, match="its record of the training images is damaged"):
            ood.OutOfDistributionDetector.read(file)


@pytest.mark.parametrize("name", list(Network))
def test_any_network_has_looks(name):
    spec = networks.NETWORKS[name]
    statistics = ood.FeatureStatistics(small.network(name))
    pictures = np.stack([support.picture(index) for index in range(3)])[..., : spec.channels]
    features = statistics(pictures)
    assert features.shape[0] == 3 and np.isfinite(features).all()
    assert not np.allclose(features[0], features[1])
    np.testing.assert_allclose(statistics(pictures[:1]), features[:1], atol=1e-5)


def test_noise_is_unlike_soft_pictures():
    statistics = ood.FeatureStatistics(networks.NETWORKS[Network.CRACKFLOW_S].build(64))
    soft = statistics(np.stack([support.picture(index) for index in range(200)]))
    noise = statistics(np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8))
    detector = ood.fit(soft[:150], soft[150:])
    assert (detector.distances(noise) > detector.limit).all()
