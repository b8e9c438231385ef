import collections
import os
import shutil

import pytest

from crackflow import convert
from crackflow.core.config.data import ConvertConfig, Encoding
from crackflow.core.errors import ConfigError, UserError
from crackflow.data import dataset
from tests.helpers import small, support


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    for name, seed, count in (("walls", 0, 40), ("roads", 50, 24)):
        support.converted(support.photos(root / f"{name}_photos", count, first_seed=seed), root / name, shards=2)
    return root


@pytest.fixture(scope="module")
def joined(parts):
    convert.run(ConvertConfig(join=(str(parts / "walls"), str(parts / "roads")), out=str(parts / "both")))
    return parts / "both"


def test_images_stored_smaller_than_photographs_may_be_are_verified_and_joined(tmp_path):
    for name, seed in (("walls", 0), ("roads", 50)):
        photos = support.photos(tmp_path / f"{name}_photos", 24, first_seed=seed)
        support.converted(photos, tmp_path / name, shards=1, image_px=8)
    convert.run(ConvertConfig(verify=str(tmp_path / "walls"), workers=1))
    parts = str(tmp_path / "walls"), str(tmp_path / "roads")
    convert.run(ConvertConfig(join=parts, out=str(tmp_path / "both"), workers=1))
    assert len(support.stored(tmp_path / "both")) == 48


def splits_of(folder):
    return {row["path"]: row["split"] for row in dataset_rows(folder)}


def dataset_rows(folder):
    return support.rows(folder, dataset.GROUPS)


def test_every_image_keeps_its_split_bytes_and_label(parts, joined):
    stored, both = support.stored(joined), splits_of(joined)
    assert len(stored) == 64
    for name in ("walls", "roads"):
        for path, fields in support.stored(parts / name).items():
            joined_fields = stored[f"{name}/{path}"]
            assert (joined_fields["image"], joined_fields["label"]) == (fields["image"], fields["label"])
            assert both[f"{name}/{path}"] == splits_of(parts / name)[path]


def test_cells_go_with_their_images(tmp_path):
    with_masks = small.data()
    support.converted(support.photos(tmp_path / "photos", 24, first_seed=9), tmp_path / "bare", shards=2)
    convert.run(ConvertConfig(join=(with_masks.folder, str(tmp_path / "bare")), out=str(tmp_path / "both")))
    both = {row["path"]: row["cells"] for row in support.rows(tmp_path / "both", dataset.MANIFEST)}
    name = os.path.basename(with_masks.folder)
    for row in support.rows(with_masks.folder, dataset.MANIFEST):
        assert both[f"{name}/{row['path']}"] == row["cells"]
    assert any(both.values()) and not any(cells for path, cells in both.items() if path.startswith("bare/"))


def test_groups_of_two_sets_are_never_one(joined):
    members = collections.defaultdict(set)
    for row in dataset_rows(joined):
        members[row["group"]].add(row["path"].split("/")[0])
    assert all(len(names) == 1 for names in members.values())
    assert {row["path"].split("/")[0] for row in dataset_rows(joined)} == {"walls", "roads"}


def test_the_joined_set_is_intact_and_counts_what_it_has(parts, joined):
    convert.run(ConvertConfig(verify=str(joined)))
    facts, walls = dataset.load(str(joined)).metadata, dataset.load(str(parts / "walls"))
    assert sum(split["count"] for split in facts["splits"].values()) == 64
    assert facts["splits"]["train"]["count"] > walls.count("train")
    assert facts["layout"] == "joined" and len(facts["source"]) == 2


def test_joining_again_gives_the_same_bytes(parts, joined, tmp_path):
    again = tmp_path / "again"
    convert.run(ConvertConfig(join=(str(parts / "walls"), str(parts / "roads")), out=str(again)))
    assert {path.name: path.read_bytes() for path in again.iterdir() if path.name != dataset.DATASET} == {
        path.name: path.read_bytes() for path in joined.iterdir() if path.name != dataset.DATASET
    }
    assert dataset.load(str(again)).metadata["fingerprint"] == dataset.load(str(joined)).metadata["fingerprint"]


def test_training_images_are_written_as_often_as_they_count_and_others_once(parts, tmp_path):
    both = tmp_path / "both"
    convert.run(ConvertConfig(join=(str(parts / "walls"), str(parts / "roads")), out=str(both), repeat=(3, 1)))
    convert.run(ConvertConfig(verify=str(both)))
    merged, walls, roads = (dataset.load(str(folder)) for folder in (both, parts / "walls", parts / "roads"))
    for split, repeat in (("train", 3), ("val", 1), ("test", 1)):
        assert merged.count(split) == repeat * walls.count(split) + roads.count(split)
    repeat = collections.Counter(row["path"] for row in support.rows(both, dataset.MANIFEST))
    for path, split in splits_of(both).items():
        assert repeat[path] == (3 if path.startswith("walls/") and split == "train" else 1)
    assert any(note.endswith("training images 3 times") for note in merged.metadata["notes"])
    different = walls.count("train") + roads.count("train")
    assert merged.describe_count("train") == f"{merged.count('train')} images ({different} different ones)"
    assert merged.describe_count("val") == f"{merged.count('val')} images"


def test_what_was_joined_before_is_told_again(joined, parts, tmp_path):
    support.converted(support.photos(tmp_path / "photos", 24, first_seed=90), tmp_path / "more", shards=2)
    convert.run(ConvertConfig(join=(str(joined), str(tmp_path / "more")), out=str(tmp_path / "all")))
    facts = dataset.load(str(tmp_path / "all")).metadata
    assert facts["source"] == [str(parts / "walls_photos"), str(parts / "roads_photos"), str(tmp_path / "photos")]
    assert [note.split(", ")[0] for note in facts["notes"]] == [
        "joined: both",
        "both: joined: walls",
        "both: joined: roads",
        "joined: more",
    ]


def test_sets_of_one_name_are_told_apart(parts, tmp_path):
    twin = tmp_path / "walls"
    shutil.copytree(parts / "roads", twin)
    convert.run(ConvertConfig(join=(str(parts / "walls"), str(twin)), out=str(tmp_path / "both")))
    assert {path.split("/")[0] for path in splits_of(tmp_path / "both")} == {"walls", "walls_2"}


@pytest.mark.parametrize("encoding", [Encoding.JPEG, Encoding.RAW])
def test_what_is_shown_by_the_test_images_of_another_set_is_left_out_and_told(tmp_path, encoding):
    """The second dataset contains the mirrored and re-encoded images of the first, and six others."""
    support.photos(tmp_path / "photos", 40)
    for folder in support.CLASSES:
        for path in sorted((tmp_path / "photos" / folder).iterdir()):
            mirrored = support.pixels(path.read_bytes())[:, ::-1]
            support.put(tmp_path / "mirrored" / folder / path.name, support.encoded(mirrored, quality=88))
    for number in range(6):
        data = support.encoded(support.picture(900 + number))
        support.put(tmp_path / "mirrored" / support.CLASSES[number % 2] / f"own{number}.jpg", data)
    for name, seed in (("photos", 0), ("mirrored", 7)):
        support.converted(tmp_path / name, tmp_path / f"{name}_set", seed=seed, shards=2, encoding=encoding)
    folders = [str(tmp_path / f"{name}_set") for name in ("photos", "mirrored")]
    convert.run(ConvertConfig(join=tuple(folders), out=str(tmp_path / "both"), workers=1))
    convert.run(ConvertConfig(verify=str(tmp_path / "both"), workers=1))

    first, second = (splits_of(folder) for folder in folders)
    order = ("train", "val", "test")
    expected = {}
    for path, split in first.items():
        other_split = second[path]
        if split == other_split == "train":
            expected |= {f"photos_set/{path}": split, f"mirrored_set/{path}": other_split}
        elif order.index(other_split) > order.index(split):
            expected[f"mirrored_set/{path}"] = other_split
        else:
            expected[f"photos_set/{path}"] = split
    expected |= {f"mirrored_set/{path}": split for path, split in second.items() if "own" in path}
    assert splits_of(tmp_path / "both") == expected and len(expected) < 86
    assert support.stored(tmp_path / "both").keys() == expected.keys()
    rejected = support.rows(tmp_path / "both", dataset.REJECTED)
    assert len(rejected) == 86 - len(expected) == dataset.load(str(tmp_path / "both")).metadata["rejected"]
    for row in rejected:
        assert row["path"] not in expected
        retained = next(path for path in expected if path in row["reason"])
        assert row["reason"] == f"shows what {retained} of the {expected[retained]} split shows"


def test_a_picture_that_two_sets_have_in_two_classes_is_left_out_of_both(tmp_path):
    support.photos(tmp_path / "one", 24)
    for folder, opposite in zip(support.CLASSES, reversed(support.CLASSES), strict=True):
        for path in sorted((tmp_path / "one" / folder).iterdir()):
            support.put(
                tmp_path / "two" / opposite / path.name, support.encoded(support.pixels(path.read_bytes()), quality=80)
            )
    for number in range(8):
        data = support.encoded(support.picture(500 + number))
        support.put(tmp_path / "two" / support.CLASSES[number % 2] / f"own{number}.jpg", data)
    for name in ("one", "two"):
        support.converted(
            tmp_path / name, tmp_path / f"{name}_set", split=(1, 0, 0) if name == "one" else (0.5, 0.25, 0.25)
        )
    convert.run(
        ConvertConfig(
            join=(str(tmp_path / "two_set"), str(tmp_path / "one_set")), out=str(tmp_path / "both"), workers=1
        )
    )
    assert all("own" in path for path in splits_of(tmp_path / "both"))
    reasons = {row["reason"].split(":")[0] for row in support.rows(tmp_path / "both", dataset.REJECTED)}
    assert reasons == {"the same picture is in the other class"}


def test_a_shard_that_was_cut_between_two_records_is_refused(parts, tmp_path):
    shutil.copytree(parts / "roads", tmp_path / "roads")
    shard = next((tmp_path / "roads").glob("train-*"))
    rows = [row for row in support.rows(tmp_path / "roads", dataset.MANIFEST) if row["shard"] == shard.name]
    shard.write_bytes(shard.read_bytes()[: int(rows[-1]["offset"])])
    config = ConvertConfig(join=(str(parts / "walls"), str(tmp_path / "roads")), out=str(tmp_path / "both"), workers=1)
    with pytest.raises(
        UserError, match=rf"{shard.name}.*: expected {len(rows)} records, found {len(rows) - 1}; restore"
    ):
        convert.run(config)


@pytest.mark.parametrize("name", [dataset.GROUPS, dataset.MANIFEST, dataset.REJECTED])
@pytest.mark.parametrize("harm", ["missing", "cut", "shorter", "header"])
def test_a_set_with_a_damaged_table_is_refused(parts, tmp_path, name, harm):
    shutil.copytree(parts / "roads", tmp_path / "roads")
    path = tmp_path / "roads" / name
    text = path.read_text()
    if harm == "missing":
        path.unlink()
    elif harm == "cut":
        path.write_text(text[: len(text) // 2])
    elif harm == "shorter":
        path.write_text("".join(text.splitlines(keepends=True)[:-1]))
    else:
        path.write_text(text.replace("path", "puth", 1))
    config = ConvertConfig(join=(str(parts / "walls"), str(tmp_path / "roads")), out=str(tmp_path / "both"), workers=1)
    if name == dataset.REJECTED:  # harmless: it has no rows, and older versions joined without it
        convert.run(config)
        return
    with pytest.raises(UserError, match=rf"--join: .*{name}.* is missing or not as it was written; restore it or con"):
        convert.run(config)
    assert os.listdir(tmp_path) == ["roads"]


def test_a_file_in_two_splits_is_refused_by_name_and_nothing_is_left(parts, tmp_path):
    support.converted(parts / "walls_photos", tmp_path / "other", seed=3, split=(0.2, 0.4, 0.4))
    with pytest.raises(UserError, match="are one file in different splits; convert the photographs of both together"):
        convert.run(ConvertConfig(join=(str(parts / "walls"), str(tmp_path / "other")), out=str(tmp_path / "both")))
    assert not (tmp_path / "both").exists()


def test_a_file_that_would_be_tested_twice_is_refused_and_one_to_train_on_is_not(parts, tmp_path):
    shutil.copytree(parts / "walls_photos", tmp_path / "photos")
    support.converted(tmp_path / "photos", tmp_path / "all_train", split=(1, 0, 0))
    support.converted(tmp_path / "photos", tmp_path / "all_test", split=(0, 0, 1))

    def join(*names):
        convert.run(ConvertConfig(join=tuple(str(tmp_path / name) for name in names), out=str(tmp_path / "both")))

    for name in ("all_train", "all_test"):
        shutil.copytree(tmp_path / name, tmp_path / f"{name}_too")
    with pytest.raises(UserError, match="are one file that the test split would count twice; convert the photographs"):
        join("all_test", "all_test_too")
    assert not (tmp_path / "both").exists()
    join("all_train", "all_train_too")
    assert len(splits_of(tmp_path / "both")) == 80


def test_sets_of_different_encodings_are_refused(parts, tmp_path):
    support.converted(parts / "roads_photos", tmp_path / "png", encoding=Encoding.PNG)
    with pytest.raises(UserError, match="expected datasets of one kind, received encoding 'jpeg'"):
        convert.run(ConvertConfig(join=(str(parts / "walls"), str(tmp_path / "png")), out=str(tmp_path / "both")))


def test_raw_sets_of_different_sizes_are_refused(parts, tmp_path):
    for image_px in (32, 48):
        support.converted(parts / "roads_photos", tmp_path / f"raw{image_px}", encoding=Encoding.RAW, image_px=image_px)
    with pytest.raises(UserError, match="expected datasets of one kind, received image_px 32 in .* and 48 in"):
        convert.run(ConvertConfig(join=(str(tmp_path / "raw32"), str(tmp_path / "raw48")), out=str(tmp_path / "both")))


def test_sets_with_other_class_names_are_joined_under_the_names_of_the_first(parts, tmp_path):
    photos = support.photos(tmp_path / "photos", 24, first_seed=200)
    for old_name, new_name in zip(support.CLASSES, ("uncracked", "cracked"), strict=True):
        (photos / old_name).rename(photos / new_name)
    support.converted(photos, tmp_path / "bridge", shards=2)
    convert.run(ConvertConfig(join=(str(parts / "walls"), str(tmp_path / "bridge")), out=str(tmp_path / "both")))
    facts = dataset.load(str(tmp_path / "both")).metadata
    assert facts["classes"] == ["Negative", "Positive"] and facts["positive_class"] == "Positive"
    assert sum(split["class_counts"]["Positive"] for split in facts["splits"].values()) == 32
    assert (
        facts["notes"][1].endswith(", uncracked and cracked as Negative and Positive")
        and " as " not in facts["notes"][0]
    )
    labels = {path: fields["label"] for path, fields in support.stored(tmp_path / "both").items()}
    assert all(labels[path] == ("uncracked" not in path) for path in labels if path.startswith("bridge/"))


def test_a_damaged_shard_is_named(parts, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(parts / "roads", broken)
    shard = next(broken.glob("train-*"))
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(UserError, match="truncated in its payload; convert its images again"):
        convert.run(ConvertConfig(join=(str(parts / "walls"), str(broken)), out=str(tmp_path / "both")))


def test_a_set_may_not_be_joined_into_itself(parts):
    with pytest.raises(UserError, match="expected a folder outside --join"):
        convert.run(ConvertConfig(join=(str(parts / "walls"), str(parts / "roads")), out=str(parts / "walls" / "in")))


@pytest.mark.parametrize("join", [("a",), ("a", "a"), ("a", "a/"), ("a", "")])
def test_less_than_two_sets_are_refused(join):
    with pytest.raises(ConfigError, match="--join: expected two datasets or more, separated by commas, each once"):
        ConvertConfig(join=join, out="out")


@pytest.mark.parametrize(
    ("sets", "repeat"), [(("a", "b"), (2,)), (("a", "b"), (1, 0)), (("a", "b"), (1, 101)), ((), (2,))]
)
def test_how_often_is_one_number_for_each_set(sets, repeat):
    with pytest.raises(ConfigError, match="--repeat: expected one number of 1 to 100 for each set of --join"):
        ConvertConfig(join=sets, images="" if sets else "photos", out="out", repeat=repeat)


@pytest.mark.parametrize("beside", [{"images": "photos"}, {"verify": "data"}])
def test_join_stands_alone(beside):
    with pytest.raises(ConfigError, match="--join: expected neither --images nor --verify with it"):
        ConvertConfig(join=("a", "b"), out="out", **beside)
