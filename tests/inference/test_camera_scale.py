import math

import pytest
from PIL.TiffImagePlugin import IFDRational

from crackflow.inference import camera_scale
from tests.helpers.camera_photos import camera_photo, packet

DIAGONAL = math.hypot(300, 200)
FILM = {"FocalLengthIn35mmFilm": 24}
SENSOR = {"FocalLength": 8.8, "FocalPlaneXResolution": 25.0, "FocalPlaneResolutionUnit": 4}
NADIR = {"RelativeAltitude": "+10.00", "GimbalPitchDegree": "-90.00"}


def read(**options):
    return camera_scale.read_camera(camera_photo(**options), 300, 200)


def test_a_focal_length_for_film_gives_the_angle_of_the_diagonal():
    camera = read(**FILM)
    assert camera.focal_px == pytest.approx(24 * DIAGONAL / math.hypot(36, 24))
    scale = camera_scale.at_distance(camera, 2.0)
    assert scale.mm_per_px == pytest.approx(2000 / camera.focal_px) and 0.05 < scale.relative_error < 0.07
    assert "a distance of 2 m" in scale.note and "24 mm for 35 mm film" in scale.note


@pytest.mark.parametrize("unit, resolution", [(2, 635.0), (3, 250.0), (4, 25.0), (5, 0.025)])
def test_the_sensor_counts_before_film_in_every_unit(unit, resolution):
    tags = SENSOR | {"FocalPlaneXResolution": resolution, "FocalPlaneResolutionUnit": unit}
    assert read(**tags, **FILM).focal_px == pytest.approx(8.8 * 25)


def test_a_picture_that_was_made_smaller_has_its_focal_length_made_smaller():
    small = read(**SENSOR, ExifImageWidth=600, ExifImageHeight=400)
    assert small.focal_px == pytest.approx(8.8 * 25 / 2)
    turned = camera_scale.read_camera(camera_photo(**SENSOR, ExifImageWidth=600, ExifImageHeight=400), 200, 300)
    assert turned.focal_px == small.focal_px


@pytest.mark.parametrize(
    "tags, reason",
    [
        ({}, "no EXIF"),
        ({"FocalLengthIn35mmFilm": 0}, "no focal length with a sensor"),
        ({"FocalLength": 5.0}, "no focal length with a sensor"),
        (SENSOR | {"FocalPlaneResolutionUnit": 1}, "no focal length with a sensor"),
        (SENSOR | {"FocalPlaneXResolution": IFDRational(0, 0)}, "no focal length with a sensor"),
        (SENSOR | {"FocalLength": IFDRational(1, 0)}, "no focal length with a sensor"),
        (SENSOR | {"FocalPlaneYResolution": 50.0}, "no focal length with a sensor"),
        (SENSOR | {"FocalPlaneResolutionUnit": 5}, "which no lens has"),
        (FILM | {"DigitalZoomRatio": 2.0}, "digital zoom of 2"),
        (FILM | {"ExifImageWidth": 400, "ExifImageHeight": 200}, "cropped"),
    ],
)
def test_a_focal_length_of_no_use_is_refused_with_the_reason(tags, reason):
    camera = read(**tags)
    assert camera.focal_px == 0 and reason in camera.focal_note
    assert reason in camera_scale.at_distance(camera, 2.0)


def test_the_laser_of_a_drone_counts_before_its_height():
    camera = read(xmp=packet(LRFTargetDistance="4.500", LRFStatus="Normal", **NADIR), **FILM)
    scale = camera_scale.at_distance(camera)
    assert scale.mm_per_px == pytest.approx(4500 / camera.focal_px) and "laser, 4.5 m" in scale.note
    assert camera_scale.at_distance(camera, 1.0).mm_per_px == pytest.approx(1000 / camera.focal_px)


def test_the_height_of_a_drone_that_looks_down_is_its_distance():
    scale = camera_scale.at_distance(read(xmp=packet(**NADIR), **FILM))
    assert scale.relative_error == pytest.approx(0.2, abs=0.01) and "take-off point, 10 m" in scale.note


@pytest.mark.parametrize(
    "properties, reason",
    [
        (NADIR | {"GimbalPitchDegree": "-45.00"}, "did not look straight down"),
        ({"RelativeAltitude": "+10.00"}, "did not look straight down"),
        (NADIR | {"RelativeAltitude": "-3.00"}, "'-3.00', which is no distance"),
        (NADIR | {"RelativeAltitude": "nan"}, "'nan', which is no distance"),
        (NADIR | {"RelativeAltitude": "33 ft"}, "'33 ft', which is no distance"),
        ({"LRFTargetDistance": "0.000"}, "laser says '0.000' m"),
        ({"LRFTargetDistance": "3.0", "LRFStatus": "TooFar"}, r"(TooFar), which is no distance"),
        ({"LRFTargetDistance": "20000"}, "which is no distance"),
    ],
)
def test_a_distance_of_no_use_is_refused_with_the_reason(properties, reason):
    camera = read(xmp=packet(**properties), **FILM)
    assert camera.distance_m == 0 and reason in camera_scale.at_distance(camera)


def test_a_calibrated_focal_length_counts_first():
    camera = read(xmp=packet(CalibratedFocalLength="366.67", **NADIR), **FILM, **SENSOR)
    assert camera.focal_px == pytest.approx(366.67)


def test_a_photograph_that_says_nothing_gives_no_reason():
    assert camera_scale.at_distance(read(**FILM)) == ""


def test_damaged_bytes_are_no_error():
    data = camera_photo(**FILM)
    for cut in range(0, len(data), 97):
        assert isinstance(camera_scale.read_camera(data[:cut], 300, 200), camera_scale.CameraFacts)
