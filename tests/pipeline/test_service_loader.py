"""A tf.data service with a dispatcher and two workers in this process."""

import collections
import socket
import threading

import numpy as np
import pytest

from crackflow.core import rendezvous
from crackflow.core.backend import tf
from crackflow.core.config.training import Input
from crackflow.core.errors import UserError
from crackflow.core.sharding import ShardOptions
from crackflow.pipeline import loader, service_loader, tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from tests.helpers import small

PX = small.IMAGE_PX


@pytest.fixture(scope="module")
def address():
    """The address of a dispatcher that has two workers."""
    api = tf.data.experimental.service
    dispatcher = api.DispatchServer()
    name = dispatcher.target.removeprefix("grpc://")
    workers = [api.WorkerServer(api.WorkerConfig(dispatcher_address=name)) for _ in range(2)]
    yield dispatcher.target
    del workers


def counted(batches, weighted):
    """Counts each image (its bytes and label), without the padding."""
    seen = collections.Counter()
    for batch in batches.as_numpy_iterator():
        image, label = batch[:2]
        weight = batch[2] if weighted else np.ones(len(label))
        seen.update(
            (picture.tobytes(), int(class_id))
            for picture, class_id, real in zip(image, label, weight, strict=True)
            if real
        )
    return seen


@pytest.mark.parametrize("encoding, split", [("jpeg", "val"), ("png", "train"), ("raw", "train")])
def test_evaluation_gets_every_image_once_from_two_workers(address, encoding, split):
    dataset = small.data(encoding)
    served = counted(service_loader.eval_batches(dataset, split, address, BatchSpec(5, PX, 3)), True)
    assert served == counted(tfrecord_loader.eval_batches(dataset, split, BatchSpec(5, PX, 3)), True)
    assert sum(served.values()) == dataset.count(split)


def test_an_epoch_of_training_holds_each_image_once(address):
    dataset = small.data("raw")
    count = dataset.count("train") // 8 * 8
    seen = counted(service_loader.train_batches(dataset, address, BatchSpec(8, PX, 3, seed=3)).take(count // 8), False)
    assert max(seen.values()) <= 2 and sum(seen.values()) == count  # the next epoch's first may come early


def test_cells_come_with_the_images_they_are_of(address):
    dataset, count = small.data("raw"), small.data("raw").count("train") // 8
    mask_bits = {}
    for images, _, cells in (
        tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, 3), with_cells=True).take(count).as_numpy_iterator()
    ):
        mask_bits.update(zip([image.tobytes() for image in images], cells.tolist(), strict=True))
    served = service_loader.train_batches(dataset, address, BatchSpec(8, PX, 3, seed=3), with_cells=True).take(count)
    for images, _, cells in served.as_numpy_iterator():
        assert [mask_bits[image.tobytes()] for image in images] == cells.tolist()


def test_shares_are_disjoint_and_complete(address):
    dataset = small.data("raw")
    whole = counted(tfrecord_loader.eval_batches(dataset, "train", BatchSpec(16, PX, 3)), True)
    parts = [
        counted(
            service_loader.eval_batches(dataset, "train", address, BatchSpec(16, PX, 3), ShardOptions(k, 1, 2)), True
        )
        for k in (0, 1)
    ]
    assert parts[0] + parts[1] == whole and not parts[0] & parts[1]


def test_a_feed_from_the_service_can_be_gone_through_again(address):
    dataset = small.data("raw")
    feed = loader.create_loader(Input.AUTO, dataset, BatchSpec(8, PX, 3), data_service=address)
    assert feed.choice == ("service", address)
    checks = feed.val()
    assert counted(checks, True) == counted(checks, True)
    assert next(iter(feed.train()))[0].shape == (8, PX, PX, 3)


def test_nobody_there_is_said_at_once():
    with pytest.raises(UserError, match="--data_service: expected a dispatcher at 'grpc://localhost:1', received Conn"):
        service_loader.require_reachable("grpc://localhost:1")


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.6\r\n", b""])
def test_something_else_there_is_said_at_once_as_well(banner, monkeypatch):
    """TensorFlow would wait for it inside C++ and ignore signals."""
    monkeypatch.setattr(rendezvous, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("localhost", 0)) as server:
        visitors = []
        threading.Thread(target=lambda: [visitors.append(server.accept()[0]), visitors[0].sendall(banner)]).start()
        address = f"grpc://localhost:{server.getsockname()[1]}"
        with pytest.raises(UserError, match="expected a dispatcher at .*, received something else that answers; start"):
            service_loader.require_reachable(address)
        visitors[0].close()


@pytest.mark.slow
def test_a_dispatcher_is_known_by_its_answer(address):
    assert rendezvous.is_grpc(address.removeprefix(service_loader.SCHEME))
    service_loader.require_reachable(address)
