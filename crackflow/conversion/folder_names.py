"""The meaning of folder names: a class, a split, the images or their masks, or a surface of SDNET2018.

Synopsis::

    folder_names.label("Non-cracked")    # 0; 1 for cracked; None if the name says neither
    folder_names.split("Training")       # "train"
    folder_names.role("Images")          # "images"; "masks" for GroundTruth; "unlabelled"; "" for others
    folder_names.surface("Decks")        # "D"
"""

import re

POSITIVE = {"positive", "pos", "crack", "cracks", "cracked", "withcrack", "withcracks", "defect", "defects", "damaged"}
NEGATIVE = {
    *("negative", "neg", "nocrack", "nocracks", "noncrack", "noncracks", "noncracked", "uncracked", "notcracked"),
    *("crackfree", "withoutcrack", "withoutcracks", "nodefect", "undamaged", "clean", "intact", "sound", "background"),
}
SPLITS = {
    "train": {"train", "training", "trainset", "trainingset", "traindata", "trainingdata", "trn"},
    "val": {
        "val",
        "valid",
        "validation",
        "validate",
        "valset",
        "validset",
        "validationset",
        "valdata",
        "dev",
        "devset",
    },
    "test": {"test", "testing", "tests", "tst", "testset", "testingset", "testdata", "holdout", "eval", "evaluation"},
}
IMAGES = {
    *("image", "images", "img", "imgs", "photo", "photos", "photograph", "photographs", "picture", "pictures"),
    *("original", "originals", "rgb", "jpegimages", "inputs", "rawimages"),
}
MASKS = {
    *("mask", "masks", "label", "labels", "annotation", "annotations", "annot", "groundtruth", "groundtruths", "gt"),
    *("segmentation", "segmentations", "segmentationclass", "seg", "segs", "target", "targets", "crackmasks"),
}
UNLABELLED = {"unlabelled", "unlabeled"}  # as crackflow.predict calls the windows that nobody has sorted yet
SURFACES = {
    **dict.fromkeys(("d", "deck", "decks", "bridgedeck", "bridgedecks"), "D"),
    **dict.fromkeys(("p", "pavement", "pavements"), "P"),
    **dict.fromkeys(("w", "wall", "walls"), "W"),
}


def _plain(name: str) -> str:
    """Letters of every script, and digits but for a number in front: "无crack" and "0 cracks" mean no crack."""
    return re.sub(r"^\d+[-_.]|[\W_]", "", name.lower())


def label(name: str) -> int | None:
    """Returns 1 for a folder of cracked images, 0 for clean images, None if the name does not say."""
    plain = _plain(name)
    return 1 if plain in POSITIVE else 0 if plain in NEGATIVE else None


def split(name: str) -> str:
    """Returns "train", "val" or "test" if the name of a folder says so, else ""."""
    plain = _plain(re.sub(r"[-_ .]*\d+$", "", name))
    return next((part for part, names in SPLITS.items() if plain in names), "")


def role(name: str) -> str:
    """Returns "images", "masks" or "unlabelled" if the name of a folder says so, else "".

    The name of a split may precede or follow it: train_images.
    """
    words = [word for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name) if word]
    plain = "".join(word.lower() for word in words if not split(word))
    roles = {"images": IMAGES, "masks": MASKS, "unlabelled": UNLABELLED}
    return next((name for name, names in roles.items() if plain in names), "")


def surface(name: str) -> str:
    """Returns D, P or W of SDNET2018 for bridge decks, pavements and walls, else ""."""
    return SURFACES.get(_plain(name), "")
