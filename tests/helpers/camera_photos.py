"""Photographs with what a camera or a drone writes beside the pixels."""

import io

import numpy as np
from PIL import ExifTags, Image

DJI = "http://www.dji.com/drone-dji/1.0/"


def packet(**properties):
    """An XMP packet as DJI writes it: properties as attributes."""
    attributes = " ".join(f'drone-dji:{name}="{value}"' for name, value in properties.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:drone-dji="{DJI}" {attributes}/></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()


def camera_photo(form="JPEG", xmp=b"", size=(300, 200), pixels=None, **tags):
    """An image file with these tags of EXIF and this packet of XMP."""
    exif = Image.Exif()
    if tags:
        exif[ExifTags.IFD.Exif] = {ExifTags.Base[name]: value for name, value in tags.items()}
    buffer, options = io.BytesIO(), {}
    if xmp:
        options = {"tiffinfo": {700: xmp}} if form == "TIFF" else {"xmp": xmp}
    picture = np.full((size[1], size[0], 3), 120, np.uint8) if pixels is None else pixels
    if tags:
        options["exif"] = exif
    Image.fromarray(picture).save(buffer, form, **options)
    return buffer.getvalue()
