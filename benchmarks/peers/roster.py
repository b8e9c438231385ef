"""The list of peers: the environment and the image sizes of each.

Synopsis::

    environment, sizes = roster.PEERS["grain"]      # environments.sh creates it under this name
"""

BOTH = (128, 227)
CRACKFLOW_ENV = "ours"  # the environment in which crackflow itself is installed

PEERS = {
    "crackflow_stream": (CRACKFLOW_ENV, BOTH),
    "crackflow_pack": (CRACKFLOW_ENV, BOTH),
    "keras_directory": ("keras", BOTH),
    "torch_pillow": ("torch", BOTH),
    "torch_opencv": ("torch", BOTH),
    "dali": ("dali", BOTH),
    "grain": ("grain", BOTH),
    "webdataset": ("torch", BOTH),
    "tfds": ("tfds", BOTH),
    "ffcv_jpeg": ("ffcv", BOTH),
    "ffcv_raw": ("ffcv", BOTH),
    "turbojpeg_limit": ("limits", (227,)),  # decodes only: it cannot resize
    "turbojpeg_accurate": ("limits", (227,)),
    "memcpy_limit": ("limits", BOTH),
}
