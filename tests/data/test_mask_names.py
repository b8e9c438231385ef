import pytest

from crackflow.data import mask_names


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        *(("000.jpg", "000.png"), ("000.jpg", "000_mask.png"), ("000.jpg", "000-mask.png"), ("000.jpg", "000_gt.bmp")),
        *(("000.jpg", "000 label.png"), ("000.jpg", "mask_000.png"), ("000.jpg", "GT_000.png")),
        *(
            ("000.JPG", "000_Mask.PNG"),
            ("Wall.jpg", "wall.png"),
            ("000.jpg", "000.jpg.png"),
            ("a.b.jpg", "a.b_mask.png"),
        ),
        *(("img_000.jpg", "mask_000.png"), ("000_image.jpg", "000_mask.png"), ("day 1/7.jpg", "day 1/7_label.png")),
        *(("000.jpg", "000_ground_truth.png"), ("000.jpg", "000_segmentation.png"), ("mask.jpg", "mask.png")),
    ],
)
def test_a_mask_is_matched_by_a_name_that_means_the_image(picture, mask):
    others = ["001_mask.png", "0000.png", "day 2/7_label.png", "00.png"]
    assert mask_names.MaskIndex([mask, *others]).find(picture) == mask


def test_the_same_name_comes_before_any_other_and_is_not_counted_as_loose():
    masks = mask_names.MaskIndex(["1_mask.png", "1.png", "2_mask.png"])
    assert (masks.find("1.jpg"), masks.loosely) == ("1.png", 0)
    assert (masks.find("2.jpg"), masks.loosely) == ("2_mask.png", 1)


def test_two_masks_that_could_be_meant_are_none():
    masks = mask_names.MaskIndex(["1_mask.png", "1_gt.png"])
    with pytest.raises(LookupError, match="several masks of its name: '1_gt.png', '1_mask.png'"):
        masks.find("1.jpg")


@pytest.mark.parametrize("picture", ["3.jpg", "12.jpg", "day 2/1.jpg", "1_mask_1.jpg"])
def test_an_image_without_a_mask_has_none(picture):
    masks = mask_names.MaskIndex(["1_mask.png", "2.png", "day 1/1.png"])
    with pytest.raises(LookupError, match="^no mask of the same name$"):
        masks.find(picture)
