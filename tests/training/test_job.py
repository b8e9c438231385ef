"""The setup of a run, from its flags."""

import dataclasses
import os

import h5py
import numpy as np
import pytest

from crackflow.core.backend import keras, tf
from crackflow.core.config.hardware import Precision
from crackflow.core.config.network import Architecture, Network, Padding
from crackflow.core.config.training import Input, Optimization, TrainConfig
from crackflow.core.errors import UserError
from crackflow.evaluation import scoring
from crackflow.model import mask_head, model_file, networks
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.training import fit_loop, job
from tests.helpers import small, support


def config(tmp_path, **changes):
    settings = {
        "data": str(small.data().folder),
        "run_dir": str(tmp_path / "run"),
        "model": Network.CUSTOM,
        "architecture": Architecture(stem=16, widths=(16,), repeats=(0,)),
        "image_px": 32,
        "batch_size": 16,
        "epochs": 3,
        "precision": Precision.FLOAT32,
        "early_stopping_epochs": 0,
        "min_steps_per_epoch": 1,
    }
    return TrainConfig(**settings | changes)


def test_a_job_is_prepared_from_flags_and_writes_nothing(tmp_path):
    setup = job.build_training(config(tmp_path))
    assert setup.batch_spec == BatchSpec(16, 32, 3, setup.config.seed) and setup.steps == 4  # 64 images
    assert (setup.precision.value, setup.cluster.choice.value, setup.dataset.count("train")) == ("float32", "one", 64)
    assert not os.listdir(tmp_path)


def test_an_epoch_of_a_small_set_goes_through_it_several_times(tmp_path):
    setup = job.build_training(config(tmp_path, min_steps_per_epoch=50, batch_size=0))
    assert setup.steps == 50 and setup.config.batch_size == 32  # 64 images
    assert setup.describe_epoch() == "50 steps of 32 images, each of the 64 training images about 25 times"
    assert job.build_training(config(tmp_path)).describe_epoch() == "4 steps of 16 images"


def test_a_fit_with_few_validation_images_chooses_by_several_epochs(tmp_path, monkeypatch):
    assert job.build_training(config(tmp_path)).fit({}).best.smoothing == 3  # 8 of each class
    monkeypatch.setattr(job, "SETTLED_IMAGES", 8)
    assert job.build_training(config(tmp_path)).fit({}).best.smoothing == 1


def test_parameters_are_those_of_the_network_alone(tmp_path):
    setup = job.build_training(config(tmp_path))
    assert setup.params == setup.model_spec.build(32).count_params() < setup.model.count_params()


def test_a_fit_ends_after_as_many_epochs_as_asked(tmp_path):
    setup = job.build_training(config(tmp_path, input=Input.STREAM))
    os.makedirs(tmp_path / "run")
    result = setup.train(setup.fit({"who": "test"}, max_epochs=2), setup.create_loader())
    assert [row["epoch"] for row in result.history] == [1, 2]
    rates = [row["learning_rate"] for row in result.history]
    assert rates[0] > rates[1] > 0  # of a schedule of three


@pytest.mark.parametrize("kind", [Input.STREAM, Input.PACK])
def test_validation_holds_no_more_at_once_than_a_part_of_a_batch(tmp_path, kind):
    setup = job.build_training(config(tmp_path, input=kind, optimization=Optimization(accumulate=4), epochs=1))
    os.makedirs(tmp_path / "run")
    feed = setup.create_loader()
    assert next(iter(feed.train()))[0].shape[0] == 16
    batches = [(len(image), weight.sum()) for image, _, weight in feed.val().as_numpy_iterator()]
    assert {batch_size for batch_size, _ in batches} == {4} and sum(real for _, real in batches) == setup.dataset.count(
        "val"
    )
    (row,) = setup.train(setup.fit({"who": "test"}), feed).history
    labels, logits = scoring.predict_logits(model_file.as_float32(setup.model), feed.val())
    assert row["val_accuracy"] == pytest.approx(np.mean((logits >= 0) == labels))  # of all images, not of a quarter


def save_with_mask_head(tmp_path, design):
    """Saves an H5 file of weights with a mask head beside them; returns its path and the head."""
    network = networks.get_model_spec(Network.CUSTOM, design).build(32)
    network.save_weights(tmp_path / "learnt.h5")
    head = mask_head.MaskHead(np.arange(16, dtype=np.float32), np.float32(-3))
    with h5py.File(tmp_path / "learnt.h5", "a") as file:
        head.write(file)
    return str(tmp_path / "learnt.h5"), head


def test_a_mask_head_resumes_from_the_weights_and_is_missed_aloud_without_masks(tmp_path, capfd):
    design = Architecture(stem=16, widths=(16,), repeats=(0,), padding=Padding.SAME)
    network_flags = {"architecture": design, "image_px": 32}
    path, head = save_with_mask_head(tmp_path, design)
    with_masks = Optimization(mask_weight=1.0)
    started = job.build_training(config(tmp_path, **network_flags, weights=path, optimization=with_masks)).model.locator
    np.testing.assert_array_equal(started.weights, head.weights)
    assert started.bias == head.bias and f"what was learnt from masks: from {path}" in capfd.readouterr().out
    job.build_training(config(tmp_path, **network_flags, weights=path))
    assert "this run learns without them (--mask_weight), and will tell places less exactly" in capfd.readouterr().out
    with h5py.File(path, "a") as file:
        del file[mask_head.GROUP]
    job.build_training(config(tmp_path, **network_flags, weights=path))
    assert "learnt from masks" not in capfd.readouterr().out


def test_what_masks_taught_another_network_is_left_with_a_note(tmp_path, capfd):
    design = Architecture(stem=16, widths=(16,), repeats=(0,), padding=Padding.SAME)
    path, _ = save_with_mask_head(tmp_path, design)
    with h5py.File(path, "a") as file:
        del file[mask_head.GROUP]["weights"]
    with_masks = Optimization(mask_weight=1.0)
    setup = job.build_training(
        config(tmp_path, architecture=design, image_px=32, weights=path, optimization=with_masks)
    )
    note = f"note: {path}: what it learnt from masks is damaged or of another network; this run begins without it"
    assert note in capfd.readouterr().out and setup.model.locator.bias == 0  # new


def test_a_run_with_masks_trains_and_one_of_photographs_without_is_refused(tmp_path):
    design = Architecture(stem=16, widths=(16,), repeats=(0,), padding=Padding.SAME)
    network_flags = {"architecture": design, "optimization": Optimization(mask_weight=1.0), "input": Input.STREAM}
    setup = job.build_training(config(tmp_path, **network_flags))
    os.makedirs(tmp_path / "run")
    assert len(setup.train(setup.fit({"who": "test"}), setup.create_loader()).history) == 3
    bare = str(tmp_path / "bare")
    support.converted(support.photos(tmp_path / "photos", 24), bare)
    with pytest.raises(UserError, match=r"--mask_weight: expected masks in '.*bare', received none; convert a folder"):
        job.build_training(config(tmp_path, data=bare, **network_flags))


def test_a_batch_that_does_not_fit_into_memory_is_one_line(tmp_path, monkeypatch):
    setup = job.build_training(config(tmp_path, input=Input.STREAM))

    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[16,64,64,64]")

    monkeypatch.setattr(fit_loop.FitLoop, "run", full)
    os.makedirs(tmp_path / "run")
    message = "--batch_size: expected a batch that fits into the memory of the device, received 16; ask for less, or"
    with pytest.raises(UserError, match=message):
        setup.train(setup.fit({"who": "test"}), setup.create_loader())


def test_the_network_of_a_model_is_taken_with_all_its_weights_and_shared_by_devices(tmp_path, capfd):
    design = Architecture(stem=16, widths=(16,), repeats=(0,), padding=Padding.SAME)
    network = networks.get_model_spec(Network.CUSTOM, design).build(32)
    card = model_file.ModelMetadata("custom", ("clean", "cracked"), 0.5, 1.0, 32, 3, "f" * 64, {"crackflow": "0"}, 0)
    head = mask_head.MaskHead(np.arange(16, dtype=np.float32), np.float32(-3))
    model_file.save(str(tmp_path / "model.h5"), network, card, locator=head)
    plain = {"model": Network.CRACKFLOW_S, "architecture": Architecture(), "image_px": 0}  # as by default
    with_masks = Optimization(mask_weight=1.0)
    for precision in (Precision.FLOAT32, Precision.MIXED_BFLOAT16):
        network_flags = config(tmp_path, **plain, weights=str(tmp_path), precision=precision, optimization=with_masks)
        setup = job.build_training(network_flags)
        assert (setup.config.architecture, setup.config.image_px, setup.source.card) == (design, 32, card)
        assert setup.batch_spec == BatchSpec(16, 32, 3, setup.config.seed)
        actual = keras.Model(setup.model.inputs, setup.model.outputs).get_weights()
        for weight, expected in zip(actual, network.get_weights(), strict=True):
            np.testing.assert_array_equal(weight, expected)
        np.testing.assert_array_equal(setup.model.locator.weights, head.weights)
    stdout = capfd.readouterr().out
    assert "weights of 5 layers from" in stdout and "new: none" in stdout
    assert "its network: --model=custom --stem=16 --widths=16 --repeats=0 --padding=same --image_px=32" in stdout
    job.build_training(config(tmp_path, **plain, weights=str(tmp_path)))
    assert "this run learns without them (--mask_weight)" in capfd.readouterr().out
    with pytest.raises(UserError, match="received --model=crackflow_s; leave all network flags out"):
        job.build_training(config(tmp_path, **plain, weights=str(tmp_path)), explicit={"model"})


def test_plain_weights_that_leave_layers_new_between_others_are_taken_with_a_warning(tmp_path, capfd):
    design = Architecture(stem=16, widths=(16, 16), repeats=(0, 0))
    wider = dataclasses.replace(design, widths=(16, 24))
    networks.get_model_spec(Network.CUSTOM, design).build(32).save_weights(tmp_path / "w.h5")
    job.build_training(config(tmp_path, architecture=design, weights=str(tmp_path / "w.h5")))
    assert "warning" not in capfd.readouterr().err
    path = str(tmp_path / "w.h5")
    with h5py.File(path, "a") as file:
        names = [name for name in file.attrs["layer_names"] if "stage1_down_conv" not in name]
        file.attrs["layer_names"] = names
    job.build_training(config(tmp_path, architecture=design, weights=path))
    stdout, stderr = capfd.readouterr()
    assert "new: stage1_down_conv" in stdout and "warning: stage1_down_conv begin with random weights" in stderr
    with pytest.raises(UserError, match="fills 3 of 7 and leaves stage1_down_conv, stage2_down_conv"):
        job.build_training(config(tmp_path, architecture=wider, weights=path))


def test_a_mistake_in_any_flag_is_found_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="expected a dataset made by crackflow.convert"):
        job.build_training(config(tmp_path, data=str(tmp_path / "none")))
    with pytest.raises(UserError, match="--weights"):
        job.build_training(config(tmp_path, weights=str(tmp_path / "none.h5")))
    assert not os.listdir(tmp_path)
