import dataclasses

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crackflow.core.backend import keras, tf
from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.core.config.network import Architecture, Network, Padding
from crackflow.core.errors import UserError
from crackflow.data import mask_grid
from crackflow.model import mask_head, networks, structure
from crackflow.training import augment

PX = 32
SMALL = Architecture(stem=8, widths=(16,), repeats=(0,), padding=Padding.SAME)  # 32 px in 8 x 8 cells


def network(design=SMALL, image_px=PX):
    keras.utils.set_random_seed(0)
    return networks.get_model_spec(Network.CUSTOM, design).build(image_px)


def signed(bits):
    return np.array(bits, np.uint64).view(np.int64)


@settings(max_examples=20)
@given(hnp.arrays(bool, (3, 8, 8)), st.lists(st.integers(0, 1), min_size=3, max_size=3))
def test_targets_are_the_cells_that_the_masks_touched(grids, labels):
    bits = signed([mask_grid.from_mask(grid) for grid in grids])
    targets = mask_head.mask_targets(tf.constant(bits), tf.constant(labels, tf.int32))
    assert (targets.crack.numpy()[..., 0] == grids).all()
    expected_known = [grid.any() or not label for grid, label in zip(grids, labels, strict=True)]
    assert targets.known.numpy().tolist() == expected_known


def test_the_loss_is_the_cross_entropy_of_the_known_pictures_over_all_cells():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (2, 8, 8)).astype(np.float32)
    crack = random.integers(0, 2, (2, 8, 8, 1)).astype(np.uint8)
    targets = mask_head.MaskTargets(tf.constant(crack), tf.constant([1.0, 0.0]))
    p = 1 / (1 + np.exp(-logits[0].astype(np.float64)))
    smoothed = crack[0, ..., 0] * 0.9 + 0.05
    expected = -(smoothed * np.log(p) + (1 - smoothed) * np.log(1 - p)).mean() / 2
    assert float(mask_head.mask_loss(targets, tf.constant(logits), 0.1)) == pytest.approx(expected, rel=1e-5)


def test_the_head_gives_the_networks_own_logits_and_a_grid_of_its_cells():
    plain = network()
    both = mask_head.attach_head(plain)
    image = np.random.default_rng(1).integers(0, 256, (2, PX, PX, 3), np.uint8)
    logits, grid = both(image, training=False)
    np.testing.assert_array_equal(logits, plain(image, training=False))
    assert grid.shape == (2, 8, 8) and grid.dtype == tf.float32


def test_a_cell_lies_where_its_pixels_do():
    both = mask_head.attach_head(network())
    image = np.full((1, PX, PX, 3), 100, np.uint8)
    before = both(image, training=False)[1].numpy()[0]
    image[0, 17:20, 25:28] = 255  # in row 4, column 6 of the cells of 4 px
    changed = {tuple(cell) for cell in np.argwhere(both(image, training=False)[1].numpy()[0] != before).tolist()}
    assert (4, 6) in changed
    assert changed <= {(row, column) for row in (3, 4, 5) for column in (5, 6, 7)}


@pytest.mark.parametrize("augment_", [Augment.NONE, Augment.D4])
def test_targets_turn_as_their_pictures_do(augment_):
    augmenter = augment.Augmenter(Augmentation(augment=augment_), seed=3, compiled=False)
    crack = np.random.default_rng(2).integers(0, 2, (16, 8, 8, 1)).astype(np.uint8)
    image = np.repeat(np.repeat(np.repeat(crack * 255, 4, 1), 4, 2), 3, 3)
    seen = augmenter(tf.constant(image), 5, 2).numpy()[:, ::4, ::4, :1] // 255
    assert (augmenter.transform_grid(tf.constant(crack), 5, 2).numpy() == seen).all()
    assert (seen == crack).all() == (augment_ is Augment.NONE)


def test_a_network_of_other_cells_is_refused_with_those_it_has():
    with pytest.raises(UserError, match="--mask_weight: expected a network that pools 8 x 8 cells, received 16 x 16"):
        mask_head.attach_head(network(image_px=64))


def test_a_network_that_pools_more_than_once_is_refused():
    with pytest.raises(UserError, match="pools 8 x 8 cells, received no such layer; such as --model=custom"):
        mask_head.attach_head(network(dataclasses.replace(SMALL, squeeze_excite=4)))


def test_the_head_is_left_behind():
    plain = network()
    names = [layer.name for layer in plain.layers]
    mask_head.attach_head(plain)
    assert [layer.name for layer in plain.layers] == names
    assert isinstance(plain, keras.Model) and mask_head.LAYER not in names


def both_and_locator():
    both = mask_head.attach_head(network())
    layer = both.get_layer(mask_head.LAYER)
    layer.set_weights([np.random.default_rng(4).normal(0, 1, weight.shape) for weight in layer.get_weights()])
    return both, mask_head.MaskHead.from_layer(layer)


def test_a_locator_gives_the_logits_of_the_layer_it_is_of():
    both, locator = both_and_locator()
    backbone = keras.Model(both.inputs, both.get_layer(structure.pooled_layer(network())).output)
    image = np.random.default_rng(5).integers(0, 256, (2, PX, PX, 3), np.uint8)
    np.testing.assert_allclose(locator(backbone(image).numpy()), both(image)[1], atol=1e-5)


def test_a_locator_is_read_as_it_was_written_and_none_where_there_is_none(tmp_path):
    locator = both_and_locator()[1]
    with h5py.File(tmp_path / "it.h5", "w") as file:
        assert mask_head.MaskHead.read(file, network()) is None
        locator.write(file)
        stored = mask_head.MaskHead.read(file, network())
    np.testing.assert_array_equal(stored.weights, locator.weights)
    assert stored.bias == locator.bias


def test_a_locator_of_which_parts_are_gone_is_refused(tmp_path):
    with h5py.File(tmp_path / "it.h5", "w") as file:
        both_and_locator()[1].write(file)
        del file[mask_head.GROUP]["bias"]
        with pytest.raises(ValueError, match="what it learnt from masks is damaged"):
            mask_head.MaskHead.read(file, network())
        del file[mask_head.GROUP]
        file.create_dataset(mask_head.GROUP, data=np.zeros(3))
        with pytest.raises(ValueError, match="what it learnt from masks is damaged"):
            mask_head.MaskHead.read(file, network())


@pytest.mark.parametrize("change", [{"weights": np.zeros(3)}, {"bias": np.nan}, {"bias": np.zeros(2)}])
def test_a_locator_of_another_network_or_of_no_numbers_is_refused(tmp_path, change):
    locator = dataclasses.replace(both_and_locator()[1], **change)
    with h5py.File(tmp_path / "it.h5", "w") as file:
        locator.write(file)
        with pytest.raises(ValueError, match="what it learnt from masks is damaged"):
            mask_head.MaskHead.read(file, network())
