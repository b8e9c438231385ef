"""Which peers there are: the environment each runs in, and the sizes it takes part in.

Synopsis::

    environment, sizes = roster.PEERS["grain"]      # made by environments.sh under this name
"""

BOTH = (128, 227)
CRACKFLOW_ENV = "ours"  # the environment that crackflow itself is installed in

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
    "turbojpeg_limit": ("limits", (227,)),  # decodes only: there is nothing in it that resizes
    "turbojpeg_accurate": ("limits", (227,)),
    "memcpy_limit": ("limits", BOTH),
}
