"""A small dataset of synthetic images, and every network at their size; each is built once per test process."""

import atexit
import functools
import pathlib
import shutil
import tempfile

from PIL import Image

from crackflow.conversion import dataset_conversion
from crackflow.core.config.data import ConvertConfig, Encoding
from crackflow.core.config.network import Architecture, Network
from crackflow.data import dataset
from crackflow.synthesis import concrete

COUNT, IMAGE_PX = 96, 64
TINY = Architecture(stem=8, widths=(8,), repeats=(0,))  # two convolutions, each with its BatchNorm


@functools.cache
def _directory() -> pathlib.Path:
    directory = pathlib.Path(tempfile.mkdtemp(prefix="crackflow-tests-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@functools.cache
def images() -> pathlib.Path:
    """Positive/ and Negative/, 48 pictures of 64 px each, and masks/ of the cracked."""
    root = _directory() / "images"
    for index in range(COUNT):
        example = concrete.draw_example(seed=5, index=index, image_px=IMAGE_PX)
        folder = root / ("Positive" if example.label else "Negative")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(example.image).save(folder / f"{index:05d}.jpg", quality=95)
        if example.label:
            (root / "masks").mkdir(exist_ok=True)
            Image.fromarray(example.mask).save(root / "masks" / f"{index:05d}.png")
    return root


def data(encoding: str = "jpeg", image_px: int = 0) -> dataset.Dataset:
    """The images as shards; train, val and test hold 64, 16 and 16."""
    return _data(encoding, image_px)


@functools.cache
def _data(encoding: str, image_px: int) -> dataset.Dataset:
    out = _directory() / f"data-{encoding}-{image_px}"
    config = ConvertConfig(
        images=str(images()),
        out=str(out),
        encoding=Encoding(encoding),
        image_px=image_px,
        split=(2 / 3, 1 / 6, 1 / 6),
        shards=4,
        workers=1,
    )
    dataset_conversion.convert_images(config)
    return dataset.load(str(out))


def tiny_network(image_px: int = 32):
    """A network of TINY, new on every call; it is traced three times as fast as the smallest that has a name."""
    from crackflow.model import networks

    return networks.get_model_spec(Network.CUSTOM, TINY).build(image_px)


@functools.cache
def network(name: Network):
    """A network for pictures of IMAGE_PX as it is before it learns, to be looked at and not changed."""
    from crackflow.model import networks  # brings TensorFlow, which the tests of conversion do without

    return networks.NETWORKS[name].build(IMAGE_PX)
