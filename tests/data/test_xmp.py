import pytest

from crackflow.data import xmp
from tests.helpers.camera_photos import camera_photo, packet

ELEMENT = (
    f'<rdf:RDF xmlns:rdf="{xmp.RDF}"><rdf:Description xmlns:d="{xmp.DJI}">'
    "<d:RelativeAltitude> +3.5 </d:RelativeAltitude></rdf:Description></rdf:RDF>"
).encode()


@pytest.mark.parametrize("form", ["JPEG", "TIFF", "WEBP"])
def test_properties_are_read_from_the_formats_that_have_them(form):
    data = camera_photo(form, packet(RelativeAltitude="+12.30", GimbalPitchDegree="-90.00"))
    assert xmp.properties(data, xmp.DJI) == {"RelativeAltitude": "+12.30", "GimbalPitchDegree": "-90.00"}


def test_elements_count_as_attributes_do():
    assert xmp.parse(ELEMENT, xmp.DJI) == {"RelativeAltitude": "+3.5"}
    assert xmp.parse(b'<?xml version="1.0" encoding="utf-16"?>' + ELEMENT, xmp.DJI) == {"RelativeAltitude": "+3.5"}


def test_properties_of_other_namespaces_are_left_out():
    assert xmp.parse(packet(RelativeAltitude="1"), "http://ns.adobe.com/exif/1.0/") == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<rdf:RDF",
        b"\xff\xfe<\x00r\x00",
        ELEMENT[:-20],
        b'<!DOCTYPE a [<!ENTITY b "c">]>' + ELEMENT,
        b'<! doctype a SYSTEM "file:///etc/passwd">' + ELEMENT,
        ELEMENT + b" " * xmp.MAX_BYTES,
        b"<a>" * 100_000,
    ],
)
def test_what_is_damaged_or_could_expand_is_not_parsed(content):
    assert xmp.parse(content, xmp.DJI) == {}


def test_long_values_are_cut():
    assert len(xmp.parse(packet(Note="x" * 5000), xmp.DJI)["Note"]) == xmp.MAX_VALUE


def test_a_file_that_is_no_image_has_no_packet():
    assert xmp.packet(b"no image") == b"" and xmp.packet(camera_photo()) == b""
