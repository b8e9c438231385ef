from crackflow.data import rejections


def test_the_most_common_reason_is_described_with_its_count_and_its_first_file():
    rejected = [("c.jpg", "empty file"), ("b.jpg", "not an image"), ("a.jpg", "not an image")]
    assert rejections.most_common(rejected) == "2 of 3 rejected, such as 'a.jpg': not an image"


def test_reasons_that_differ_in_names_and_numbers_are_one():
    rejected = [(f"{n}.jpg", f"its mask 'masks/{n}.png' has no value above {n * 1000:,}") for n in range(3)]
    message = rejections.most_common([*rejected, ("x.jpg", "empty file"), ("y.jpg", "empty file")])
    assert message == "3 of 5 rejected, such as '0.jpg': its mask 'masks/0.png' has no value above 0"


def test_one_rejection_and_none_are_described_without_a_fraction():
    assert rejections.most_common([("a.jpg", "empty file")]) == "1 was rejected, 'a.jpg': empty file"
    assert rejections.most_common([]) == ""
