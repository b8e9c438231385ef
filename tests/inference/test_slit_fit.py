import numpy as np
import pytest

from crackflow.inference import slit_fit

OFFSETS = np.arange(-16, 16.5, 0.5)
PRIOR = slit_fit.Prior(0.9, 0.4, 0.7, 0.2)


def profile(width, blur, contrast=0.7, middle=0.0, ground=0.4):
    return ground * (1 - contrast * slit_fit.blurred_slit(OFFSETS, width, blur, middle))


def fitted(*profiles, prior=PRIOR):
    stack = np.array(profiles, np.float32)
    rows = prior[np.zeros(len(stack), int)]
    return slit_fit.fit(OFFSETS, stack, np.full(len(stack), 3.0), rows)


@pytest.mark.parametrize("width", [3.0, 4.5, 8.0, 12.0])
@pytest.mark.parametrize("blur", [0.6, 0.9, 1.2])
def test_a_slit_without_noise_has_its_own_width(width, blur):
    fit = fitted(profile(width, blur))
    assert fit.is_good[0] and fit.width[0] == pytest.approx(width, abs=0.12 * blur + 0.1)
    assert abs(fit.width[0] - width) < 2 * fit.width_error[0]


def test_the_blur_and_contrast_of_a_wide_slit_are_its_own():
    fit = fitted(profile(8.0, 1.4, contrast=0.5))
    assert fit.blur[0] == pytest.approx(1.4, rel=0.05) and fit.contrast[0] == pytest.approx(0.5, abs=0.03)


def test_brightness_changes_nothing():
    dark, light = fitted(profile(4.0, 0.9, ground=0.05), profile(4.0, 0.9, ground=0.9)).width
    assert dark == pytest.approx(light, abs=1e-3)


def test_the_middle_is_where_the_slit_lies():
    assert fitted(profile(5.0, 0.8, middle=1.75)).middle[0] == pytest.approx(1.75, abs=0.02)


def test_a_known_contrast_tells_the_width_of_a_narrow_slit():
    known = slit_fit.Prior(0.9, 0.02, 0.7, 0.02)
    fit = fitted(profile(1.0, 0.9), prior=known)
    assert fit.width[0] == pytest.approx(1.0, abs=0.1)
    assert fit.width_error[0] < fitted(profile(1.0, 0.9)).width_error[0]


def test_ground_alone_and_noise_are_no_slits():
    noise = 0.4 + 0.05 * np.random.default_rng(0).normal(size=len(OFFSETS))
    assert not fitted(np.full(len(OFFSETS), 0.4), noise).is_good.any()


def test_a_profile_does_not_depend_on_those_beside_it():
    alone = fitted(profile(6.0, 0.8)).width[0]
    assert fitted(profile(2.0, 1.3), profile(6.0, 0.8), profile(9.0, 0.6)).width[1] == pytest.approx(alone, abs=1e-4)


def test_noise_makes_errors_larger():
    rng = np.random.default_rng(1)
    clear = fitted(profile(4.0, 0.9)).width_error[0]
    assert fitted(profile(4.0, 0.9) + 0.02 * rng.normal(size=len(OFFSETS))).width_error[0] > clear
