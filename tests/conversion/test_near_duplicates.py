import errno
import io
import os

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crackflow.conversion import duplicate_search, near_duplicates
from crackflow.data import image_file, thumbnail
from tests.helpers import support
from tests.helpers.symmetries import SYMMETRIES, less_smooth, moved


def signatures_of(files):
    """Signatures of encoded images, as the scan computes them."""
    thumbnails = [thumbnail.thumbnail(image_file.parse_photo(data, "x.jpg", 100)).grey for data in files]
    return near_duplicates.ImageSignatures.of([image_file.digest(data) for data in files], thumbnails)


def signatures_from(thumbs, means):
    """Signatures of float16 [N, 16, 16] thumbnails and float32 [N] means, with distinct digests."""
    digest = np.zeros((len(thumbs), 32), np.uint8)
    digest[:, :8] = np.arange(len(thumbs), dtype=np.uint64)[:, None].view(np.uint8)
    return near_duplicates.ImageSignatures(digest, np.asarray(thumbs, np.float16), np.asarray(means, np.float32))


def all_pairs(signatures):
    """int64 [N]: groups by comparing every pair under every symmetry, without the functions of the library."""
    count = len(signatures.digest)
    same = np.arange(count)

    def root(row):
        while same[row] != row:
            row = same[row]
        return row

    thumbs = signatures.thumb.astype(np.float64)
    contrast = np.mean(thumbs**2, (1, 2))
    residuals = np.array([less_smooth(thumb) for thumb in thumbs])
    power = np.mean(residuals**2, (1, 2))
    for a in range(count):
        transformed = np.stack([moved(thumbs[a], turns, flip) for turns, flip in SYMMETRIES])
        transformed_residuals = np.stack([moved(residuals[a], turns, flip) for turns, flip in SYMMETRIES])
        overlap = np.mean(transformed_residuals[:, None] * residuals, (2, 3)).max(0)
        distance = np.sqrt(np.mean((transformed[:, None] - thumbs) ** 2, (2, 3)).min(0))
        for b in range(a + 1, count):
            threshold = np.sqrt(0.6**2 + 0.06**2 * min(contrast[a], contrast[b]))
            near = distance[b] <= threshold and abs(signatures.mean[a] - signatures.mean[b]) <= 40
            near = near and overlap[b] >= 0.5 * np.sqrt(power[a] * power[b]) - 1e-9
            if near or bytes(signatures.digest[a]) == bytes(signatures.digest[b]):
                low, high = sorted((root(a), root(b)))
                same[high] = low
    return np.array([root(row) for row in range(count)])


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    symmetry=st.sampled_from(SYMMETRIES),
    quality=st.integers(60, 95),
    shift=st.integers(-15, 15),
    size=st.sampled_from([(64, 64), (96, 96), (101, 101), (227, 227), (80, 120)]),
)
def test_a_turned_reencoded_and_brightened_copy_is_found(seed, symmetry, quality, shift, size):
    picture = 30 + support.picture(seed, *size) // 4 * 3  # no clipping: light shifts every grey level alike
    copy = np.clip(moved(picture, *symmetry).astype(int) + shift, 0, 255).astype(np.uint8)
    first = support.encoded(picture, quality=95)
    second = support.encoded(copy, quality=quality)
    assert near_duplicates.duplicate_groups(signatures_of([first, second]), near=True).tolist() == [0, 0]


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_different_pictures_are_not_joined(seed):
    files = [support.encoded(support.picture(seed * 50 + number)) for number in range(30)]
    assert near_duplicates.duplicate_groups(signatures_of(files), near=True).tolist() == list(range(30))


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_pictures_whose_difference_is_small_but_real_are_not_joined(seed):
    rng = np.random.default_rng(seed)
    first = rng.normal(0, 20, (16, 16))
    power = np.mean(np.float64(np.float16(first)) ** 2)
    threshold = np.sqrt(0.6**2 + 0.06**2 * power)
    step = rng.normal(0, 1, (16, 16))
    step *= threshold / np.sqrt(np.mean(step**2))
    thumbs = [first, first + 0.9 * step, -first, -first + 1.15 * step]
    joined = near_duplicates.duplicate_groups(signatures_from(thumbs, [128] * 4), near=True)
    assert joined.tolist() == [0, 0, 2, 3]


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), noise=st.floats(0.1, 4))
def test_the_tree_finds_what_comparing_all_pairs_finds(seed, noise):
    rng = np.random.default_rng(seed)
    originals = rng.normal(0, 1, (12, 16, 16)) * rng.uniform(0.3, 30, (12, 1, 1))
    originals[:2] = 0  # blank frames
    thumbs, means = [], []
    for _ in range(36):
        copy = moved(originals[rng.integers(12)], rng.integers(4), bool(rng.integers(2)))
        copy = copy + rng.choice([0, 1]) * rng.normal(0, noise, (16, 16))
        thumbs.append(copy - copy.mean())
        means.append(rng.uniform(60, 200))
    signatures = signatures_from(thumbs, means)
    target, source = rng.integers(36, size=2)
    for values in (signatures.digest, signatures.thumb, signatures.mean):  # a byte copy
        values[target] = values[source]
    assert near_duplicates.duplicate_groups(signatures, near=True).tolist() == all_pairs(signatures).tolist()


SCENES = ("fixed camera", "cameras and others", "slow change", "turned", "blank walls", "gradients")


def scene(kind, seed, count=40):
    """Signatures of `count` similar frames of one kind."""
    rng = np.random.default_rng(seed)
    smooth_part = np.cumsum(np.cumsum(rng.normal(0, 1, (3, 16, 16)), 1), 2)
    pictures = (smooth_part - smooth_part.mean((1, 2), keepdims=True)) * rng.uniform(0.05, 1) + rng.normal(
        0, 2, (3, 16, 16)
    )
    noise = rng.normal(0, rng.choice([0.02, 0.3, 0.6, 1.0]), (count, 16, 16))
    thumbs = pictures[0] + noise
    if kind == "cameras and others":
        thumbs = pictures[rng.integers(3, size=count)] + noise
        thumbs[::5] = rng.normal(0, 5, (len(thumbs[::5]), 16, 16))
    elif kind == "slow change":
        thumbs = thumbs + np.linspace(0, 6, count)[:, None, None] * rng.normal(0, 1, (16, 16))
    elif kind == "turned":
        thumbs = np.stack([moved(thumb, rng.integers(4), bool(rng.integers(2))) for thumb in thumbs])
    elif kind == "blank walls":
        thumbs = np.repeat(rng.normal(0, 0.4, (count // 2, 16, 16)), 2, 0)
        thumbs = thumbs + rng.choice([0, 0.3], (count, 1, 1)) * rng.normal(0, 1, (count, 16, 16))
    elif kind == "gradients":
        thumbs = np.linspace(-30, 30, 16)[:, None] * (1 + 0.002 * rng.integers(0, 9, (count, 1, 1))) + np.zeros(
            (16, 16)
        )
    thumbs = thumbs[rng.permutation(len(thumbs))]
    means = 128 + rng.choice([0, 30, 60], len(thumbs), p=[0.8, 0.1, 0.1]) + rng.uniform(-5, 5, len(thumbs))
    return signatures_from(thumbs - thumbs.mean((1, 2), keepdims=True), means)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SCENES), st.integers(0, 10**6), st.sampled_from([0, 0.02, 1]), st.booleans())
def test_groups_of_much_that_is_alike_are_those_of_comparing_all_pairs(kind, seed, dense_fraction, small):
    signatures = scene(kind, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicate_search, "DENSE_FRACTION", dense_fraction)
        for name, value in [("ROWS", 8), ("COLUMNS", 20), ("LEADERS", 2)] * small:
            patch.setattr(duplicate_search, name, value)
        assert near_duplicates.duplicate_groups(signatures, near=True).tolist() == all_pairs(signatures).tolist()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SCENES), st.integers(0, 10**6))
def test_comparing_by_matrices_rules_out_no_match_and_little_else_is_left(kind, seed):
    signatures = scene(kind, seed)
    rows = np.arange(len(signatures.digest))
    left, right = (side.ravel() for side in np.meshgrid(rows, rows, indexing="ij"))
    exact = near_duplicates._matches(signatures, left, right).reshape(len(rows), -1)
    candidates = near_duplicates._may_match(signatures, rows, rows)
    assert not (exact & ~candidates).any()
    if kind != "gradients":  # their residuals are mere rounding errors
        assert (candidates & ~exact).mean() < 0.1


def test_frames_by_the_thousand_are_grouped_with_work_that_grows_as_their_number(monkeypatch):
    work = {"elements": 0, "pairs": 0}
    may_match, matches = near_duplicates._may_match, near_duplicates._matches

    def counted_matrix(signatures, left, right):
        work["elements"] += len(left) * len(right)
        return may_match(signatures, left, right)

    def counted_pairs(signatures, left, right):
        work["pairs"] += len(left)
        return matches(signatures, left, right)

    monkeypatch.setattr(near_duplicates, "_may_match", counted_matrix)
    monkeypatch.setattr(near_duplicates, "_matches", counted_pairs)
    count, rng = 6_000, np.random.default_rng(0)
    thumbs = rng.normal(0, 20, (16, 16)) + rng.normal(0, 0.4, (count, 16, 16))
    signatures = signatures_from(thumbs, rng.uniform(120, 136, count))
    assert not near_duplicates.duplicate_groups(signatures, near=True).any()
    assert work["pairs"] < 2 * count and work["elements"] < 60 * count < count**2 / 2


def test_blank_frames_are_joined_along_a_chain_of_brightness():
    signatures = signatures_from([np.zeros((16, 16))] * 3, [100, 130, 165])
    assert near_duplicates.duplicate_groups(signatures, near=True).tolist() == [0, 0, 0]


def walls(count, noise, seed=0, size=227, shade=0, fall=0.0):
    """uint8 [count, size, size, 3]: photographs of a blank white wall with independent noise.

    The corners are darker by `shade` grey levels, and the lens loses the fraction `fall` of the light there.
    """
    rng = np.random.default_rng(seed)
    square = np.linspace(-1, 1, size) ** 2
    radius = square[:, None] + square
    grey = 215 - shade * radius / 2 + rng.uniform(-8, 8, (count, 1, 1))
    grey = grey * (1 - fall * (1 - np.cos(np.arctan(np.sqrt(radius / 2))) ** 4) / 0.75)
    grey = grey + rng.normal(0, noise, (count, size, size))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 3)


LIGHTS = [{}, {"shade": 20}, {"fall": 0.5}, {"size": 400}, {"noise": 2}, {"noise": 12, "shade": 8}]


@pytest.mark.parametrize("light", LIGHTS, ids=str)
def test_photographs_of_a_blank_wall_are_not_one_picture_for_their_noise(light):
    files = [support.encoded(wall, quality=92) for wall in walls(30, **{"noise": 6} | light)]
    assert near_duplicates.duplicate_groups(signatures_of(files), near=True).tolist() == list(range(30))


@pytest.mark.parametrize("light", LIGHTS, ids=str)
def test_copies_of_a_photograph_of_a_blank_wall_are_found(light):
    for number, wall in enumerate(walls(16, **{"noise": 6} | light)):
        first = support.encoded(wall, quality=92)
        turned = moved(support.pixels(first), *SYMMETRIES[number % 8])
        darker = (turned * 0.95 + 3).astype(np.uint8)
        copies = [support.encoded(turned, quality=85), support.encoded(darker, quality=95), first]
        assert near_duplicates.duplicate_groups(signatures_of([first, *copies]), near=True).tolist() == [0] * 4


def test_chunks_do_not_hide_copies(monkeypatch):
    rng = np.random.default_rng(0)
    thumbs = rng.normal(0, 20, (50, 16, 16))
    thumbs[40:] = thumbs[:10, ::-1]
    signatures = signatures_from(thumbs, np.full(50, 128))
    monkeypatch.setattr(near_duplicates, "CHUNK", 7)
    assert near_duplicates.duplicate_groups(signatures, near=True).tolist() == [*range(40), *range(10)]


def test_the_same_look_in_very_different_light_is_not_one_picture():
    thumb = np.random.default_rng(0).normal(0, 20, (16, 16))
    assert near_duplicates.duplicate_groups(signatures_from([thumb, thumb], [60, 110]), near=True).tolist() == [0, 1]


def test_byte_copies_are_found_without_a_look():
    files = [support.encoded(support.picture(number)) for number in (1, 2, 1, 1)]
    turned = support.encoded(support.picture(2)[::-1])
    assert near_duplicates.duplicate_groups(signatures_of([*files, turned]), near=False).tolist() == [0, 1, 0, 0, 4]


def test_no_files_have_no_pictures():
    assert near_duplicates.duplicate_groups(near_duplicates.ImageSignatures.empty(0), near=True).tolist() == []


def test_the_cosine_transform_is_that_of_scipy():
    np.testing.assert_allclose(
        near_duplicates._dct_matrix(), scipy.fft.dct(np.eye(16), axis=0, norm="ortho"), atol=1e-7
    )


def test_connect_gives_the_smallest_member_of_each_component():
    links = np.array([[5, 3], [3, 1], [4, 4], [2, 6]])
    assert near_duplicates.connect(7, links).tolist() == [0, 1, 2, 1, 4, 1, 2]


def test_looks_on_disk_equal_looks_in_memory_and_claim_their_space(tmp_path):
    file = tmp_path / "thumbs"
    on_disk, in_memory = near_duplicates.ImageSignatures.empty(3, str(file)), near_duplicates.ImageSignatures.empty(3)
    thumbnail = np.random.default_rng(0).uniform(0, 255, (16, 16)).astype(np.float32)
    for signatures in (on_disk, in_memory):
        signatures.put(1, near_duplicates.ImageSignatures.of([bytes(range(32))], [thumbnail]))
    np.testing.assert_array_equal(on_disk.thumb, in_memory.thumb)
    assert in_memory.mean[1] == pytest.approx(thumbnail.mean())
    assert file.stat().st_size == 3 * 16 * 16 * 2
    assert file.stat().st_blocks * 512 >= file.stat().st_size


def test_copies_of_real_photographs_differ_far_less_than_the_threshold(real_data):
    folder = real_data("metu") / "Positive"
    for path in sorted(folder.iterdir())[:20]:
        with Image.open(path) as image:
            values = np.asarray(image)
        files = [path.read_bytes()]
        for turns, flip in SYMMETRIES[1:]:
            buffer = io.BytesIO()
            Image.fromarray(moved(values, turns, flip)).save(buffer, "JPEG", quality=80)
            files.append(buffer.getvalue())
        assert set(near_duplicates.duplicate_groups(signatures_of(files), near=True)) == {0}, path.name


@pytest.mark.parametrize("contrast", [5.0, 40.0])
@pytest.mark.parametrize(("relative_difference", "same"), [(0.97, True), (1.03, False)])
def test_soft_pictures_are_one_up_to_the_threshold_and_two_beyond(contrast, relative_difference, same):
    rng = np.random.default_rng(int(contrast))
    # Soft: all power is below frequency 4, where the features are, so that the threshold alone decides.
    spectrum = np.zeros((2, 16, 16))
    spectrum[:, :4, :4] = rng.normal(size=(2, 4, 4))
    spectrum[:, 0, 0] = 0
    wave = np.cos(np.pi * (np.arange(16)[:, None] + 0.5) * np.arange(16) / 16)
    picture, difference = (wave @ coefficients @ wave.T for coefficients in spectrum)
    picture *= contrast / np.sqrt((picture**2).mean())
    difference -= picture * (difference * picture).mean() / (picture**2).mean()
    threshold = np.sqrt(0.6**2 + (0.06 * contrast) ** 2)
    difference *= relative_difference * threshold / np.sqrt((difference**2).mean())
    signatures = signatures_from([picture, picture + difference], [100, 100])
    assert (len(set(near_duplicates.duplicate_groups(signatures, near=True).tolist())) == 1) is same


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM, None])
def test_where_no_disk_can_promise_room_thumbnails_stay_in_memory(tmp_path, monkeypatch, code):
    def refused(*_):
        raise OSError(code, os.strerror(code))

    if code is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refused)
    signatures = near_duplicates.ImageSignatures.empty(3, str(tmp_path / "thumbs"))
    assert not isinstance(signatures.thumb, np.memmap) and not signatures.thumb.any() and os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_not_passed_over(tmp_path, monkeypatch, code):
    def full(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError) as raised:
        near_duplicates.ImageSignatures.empty(3, str(tmp_path / "thumbs"))
    assert raised.value.errno == code
