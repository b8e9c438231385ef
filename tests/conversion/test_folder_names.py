import pytest

from crackflow.conversion import folder_names


@pytest.mark.parametrize(
    ("name", "label"),
    [
        *(("Cracked", 1), ("01_cracks", 1), ("With Crack", 1), ("DEFECT", 1)),
        *(("Non-cracked", 0), ("no crack", 0), ("02_uncracked", 0), ("Background", 0)),
        *(("0 cracks", None), ("没有crack", None), ("Decks", None), ("", None)),
    ],
)
def test_a_name_tells_a_class_or_nothing(name, label):
    assert folder_names.label(name) == label


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("Train", "train"), ("training", "train"), ("train_set", "train"), ("Training Data", "train")),
        *(("valid", "val"), ("Validation", "val"), ("VAL", "val"), ("dev", "val"), ("validation-set", "val")),
        *(("test", "test"), ("Testing", "test"), ("test1", "test"), ("evaluation", "test")),
        *(("trains", ""), ("contest", ""), ("walls", ""), ("Positive", "")),
    ],
)
def test_a_name_tells_a_split_or_nothing(name, split):
    assert folder_names.split(name) == split


@pytest.mark.parametrize("name", ["images", "Images", "image", "IMGS", "photo", "JPEGImages", "train_images", "RGB"])
def test_names_of_pictures(name):
    assert folder_names.role(name) == "images"


@pytest.mark.parametrize(
    "name", ["masks", "Mask", "labels", "label", "annotations", "groundtruth", "Ground Truth", "GT", "masks_train"]
)
def test_names_of_masks(name):
    assert folder_names.role(name) == "masks"


@pytest.mark.parametrize("name", ["Positive", "walls", "masked walls", "imagery", "test"])
def test_names_of_neither(name):
    assert folder_names.role(name) == ""


@pytest.mark.parametrize(
    ("name", "surface"),
    [("D", "D"), ("Decks", "D"), ("bridge_decks", "D"), ("pavement", "P"), ("WALLS", "W"), ("X", "")],
)
def test_names_of_sdnets_surfaces(name, surface):
    assert folder_names.surface(name) == surface
