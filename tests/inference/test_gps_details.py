import pytest
from PIL.TiffImagePlugin import IFDRational

from crackflow.inference import gps_details
from tests.helpers import support
from tests.helpers.gps_photos import SOMEWHERE, tagged, with_xmp


def details(**tags):
    return gps_details.parse(tagged(*SOMEWHERE, ("S", "W"), **tags))


@pytest.mark.parametrize(
    ("reference", "sign"), [(b"\0", 1), (b"\1", -1), (b"\2", 1), (b"\3", -1), (None, 1), (0, 1), (1, -1)]
)
def test_an_altitude_has_the_sign_of_its_reference(reference, sign):
    assert details(GPSAltitude=12.5, GPSAltitudeRef=reference) == {"altitude_m": sign * 12.5}


@pytest.mark.parametrize(("letter", "reference"), [("T", "true"), ("M", "magnetic"), ("m\0", "magnetic")])
def test_a_heading_says_which_north_it_counts_from(letter, reference):
    expected = {"heading_deg": 271.5, "heading_reference": reference}
    assert details(GPSImgDirection=271.5, GPSImgDirectionRef=letter) == expected


def test_a_heading_without_a_reference_keeps_none():
    assert details(GPSImgDirection=10.0) == {"heading_deg": 10.0}
    assert details(GPSImgDirection=360.0, GPSImgDirectionRef="?") == {"heading_deg": 0.0}


def test_a_missing_heading_is_no_heading():
    assert details() == {} and details(GPSImgDirectionRef="T") == {}


@pytest.mark.parametrize("value", [IFDRational(0, 0), IFDRational(1, 0), 361.0])
def test_a_heading_that_is_none_is_left_out(value):
    assert "heading_deg" not in details(GPSImgDirection=value, GPSImgDirectionRef="T")


@pytest.mark.parametrize(("error", "expected"), [(4.5, 4.5), (0.0, None), (IFDRational(1, 0), None), (None, None)])
def test_how_exact_the_position_is(error, expected):
    assert details(GPSHPositioningError=error).get("uncertainty_m") == expected


@pytest.mark.parametrize("form", ['{}="{}"', "<{0}>{1}</{0}>"])
def test_the_xmp_of_a_drone_gives_directions_and_uncertainty(form):
    values = {"GimbalPitchDegree": "-89.90", "GimbalYawDegree": "-90.0", "RtkStdLat": "0.03", "RtkStdLon": "+0.04"}
    lines = " ".join(form.format(f"drone-dji:{name}", value) for name, value in values.items())
    expected = {"heading_deg": 270.0, "heading_reference": "true", "pitch_deg": -89.9, "uncertainty_m": 0.05}
    assert gps_details.parse(with_xmp(tagged(*SOMEWHERE), lines)) == expected


def test_exif_goes_before_xmp():
    data = tagged(*SOMEWHERE, GPSImgDirection=5.0, GPSImgDirectionRef="M", pitch=-45.0)
    parsed = gps_details.parse(with_xmp(data, 'drone-dji:GimbalYawDegree="80" drone-dji:GimbalPitchDegree="-90"'))
    assert parsed == {"heading_deg": 5.0, "heading_reference": "magnetic", "pitch_deg": -45.0}


def test_a_photograph_that_is_turned_has_no_pitch():
    assert gps_details.parse(tagged(*SOMEWHERE, pitch=-90.0)) == {"pitch_deg": -90.0}
    assert gps_details.parse(tagged(*SOMEWHERE, pitch=-90.0, orientation=6)) == {}


@pytest.mark.parametrize(
    "data", [b"", b"junk", support.encoded(support.picture(0)), b"\xff\xd8\xff\xe1\x00\x20Exif\0\0II"]
)
def test_a_file_that_says_nothing_has_no_details(data):
    assert gps_details.parse(data) == {}
