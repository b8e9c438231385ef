"""Photographs with a place in their EXIF."""

import io

from PIL import ExifTags, Image

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


SOMEWHERE = (33.0, 51.0, 24.5), (70.0, 39.0, 36.0)


def tagged(latitude, longitude, sides=("N", "E"), **more):
    """A JPEG with these GPS tags; what is None is left out."""
    tags = {"GPSLatitude": latitude, "GPSLatitudeRef": sides[0], "GPSLongitude": longitude, "GPSLongitudeRef": sides[1]}
    exif = Image.Exif()
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS[k]: v for k, v in (tags | more).items() if v is not None}
    buffer = io.BytesIO()
    Image.fromarray(support.picture(0)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()
