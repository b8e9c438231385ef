"""What the names of folders mean: a class, a split, the pictures or their masks, one of SDNET2018's surfaces.

Synopsis::

    folder_names.label("Non-cracked")    # 0; 1 for cracked; None where the name tells neither
    folder_names.split("Training")       # "train"
    folder_names.role("Images")          # "images"; "masks" for GroundTruth; "" for another
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
SURFACES = {
    **dict.fromkeys(("d", "deck", "decks", "bridgedeck", "bridgedecks"), "D"),
    **dict.fromkeys(("p", "pavement", "pavements"), "P"),
    **dict.fromkeys(("w", "wall", "walls"), "W"),
}


def _plain(name: str) -> str:
    """Letters of every script, and digits but for a number in front: "无crack" and "0 cracks" mean no crack."""
    return re.sub(r"^\d+[-_.]|[\W_]", "", name.lower())


def label(name: str) -> int | None:
    """1 for a folder of cracked pictures, 0 of clean ones, None where the name does not tell."""
    plain = _plain(name)
    return 1 if plain in POSITIVE else 0 if plain in NEGATIVE else None


def split(name: str) -> str:
    """train, val or test where the name of a folder says so; else empty."""
    plain = _plain(re.sub(r"[-_ .]*\d+$", "", name))
    return next((part for part, names in SPLITS.items() if plain in names), "")


def role(name: str) -> str:
    """ "images" or "masks" where the name of a folder says so; else empty. What splits are called may stand before or
    after: train_images."""
    words = [word for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name) if word]
    plain = "".join(word.lower() for word in words if not split(word))
    return "images" if plain in IMAGES else "masks" if plain in MASKS else ""


def surface(name: str) -> str:
    """D, P or W of SDNET2018, for bridge decks, pavements and walls; else empty."""
    return SURFACES.get(_plain(name), "")
