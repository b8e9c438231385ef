"""Photographs with a place in their EXIF."""

import io

from PIL import ExifTags, Image, TiffImagePlugin

from tests.helpers import support


def located(latitude, longitude, sides=("N", "E"), pixels=None):
    """A JPEG that says where it was taken; degrees, minutes and seconds each."""
    exif = Image.Exif()
    exif[ExifTags.IFD.GPSInfo] = {
        ExifTags.GPS.GPSLatitudeRef: sides[0],
        ExifTags.GPS.GPSLatitude: latitude,
        ExifTags.GPS.GPSLongitudeRef: sides[1],
        ExifTags.GPS.GPSLongitude: longitude,
    }
    buffer = io.BytesIO()
    Image.fromarray(support.picture(0) if pixels is None else pixels).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


GPS_TAGS = {"GPSHPositioningError": 31}  # which some versions of Pillow name otherwise
SOMEWHERE = (33.0, 51.0, 24.5), (70.0, 39.0, 36.0)


def tagged(latitude, longitude, sides=("N", "E"), pitch=None, orientation=None, pixels=None, **more):
    """A JPEG with these GPS tags; what is None is left out. `pitch`: CameraElevationAngle in degrees."""
    tags = {"GPSLatitude": latitude, "GPSLatitudeRef": sides[0], "GPSLongitude": longitude, "GPSLongitudeRef": sides[1]}
    exif = Image.Exif()
    exif[ExifTags.IFD.GPSInfo] = {
        GPS_TAGS.get(k) or ExifTags.GPS[k]: v for k, v in (tags | more).items() if v is not None
    }
    if pitch is not None:
        exif[ExifTags.IFD.Exif] = {0x9405: TiffImagePlugin.IFDRational(round(pitch * 100), 100)}
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    Image.fromarray(support.picture(0) if pixels is None else pixels).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def with_xmp(data, lines):
    """The JPEG `data` with these attributes or elements in its XMP."""
    is_attribute = not lines.startswith("<")
    description = f"<rdf:Description {lines}/>" if is_attribute else f"<rdf:Description>{lines}</rdf:Description>"
    packet = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>{description}</rdf:RDF></x:xmpmeta>'
    segment = b"http://ns.adobe.com/xap/1.0/\0" + packet.encode()
    return data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]
