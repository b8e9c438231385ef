"""Convert a folder of photographs to TFRecord shards, with no picture in two splits.

  python -m crackflow.convert --images=photos --out=data/photos
  python -m crackflow.convert --verify=data/photos
  python -m crackflow.convert --join=data/metu,data/made --out=data/both      # every image keeps its split
  python -m crackflow.convert --images=/nfs/photos --out=/nfs/data --runner=beam --beam_options=--runner=SparkRunner

Layouts: one folder per class (Positive/ Negative/, cracked/ uncracked/, ...); SDNET2018; images/ + masks/; annotations
of COCO, YOLO, labelme and CVAT; a CSV table of paths and labels. train/, valid/ and test/ are kept (docs/DATA.md).
"""

import os

from crackflow.conversion import dataset_conversion, verify
from crackflow.core import atomic, callable_module, console, flags, process_pool
from crackflow.core.config.data import ConvertConfig
from crackflow.core.errors import VerificationError
from crackflow.data import dataset


def run(config: ConvertConfig) -> dict:
    """Converts a folder, or verifies (`verify`) or joins (`join`) datasets that were converted before.

    Returns:
        The content of dataset.json.

    Raises:
        UserError: The flags or the images are unusable.
        VerificationError: The dataset to verify is damaged or incomplete.
    """
    if config.verify:
        return verify_dataset(config)
    if config.join:
        return dataset_conversion.join_datasets(config)
    return dataset_conversion.convert_images(config)


def verify_dataset(config: ConvertConfig) -> dict:
    """Reads the dataset `config.verify` again and prints every damage.

    Returns:
        The content of its dataset.json.

    Raises:
        VerificationError: The dataset is damaged or incomplete; the message contains the first damage.
    """
    if atomic.is_unfinished(config.verify):
        raise VerificationError(
            f"{config.verify!r} is no whole dataset: the run that made it was killed, or is not done"
        )
    if os.path.isdir(config.verify) and not os.path.exists(os.path.join(config.verify, dataset.DATASET)):
        raise VerificationError(f"{config.verify!r} is no whole dataset: it has no {dataset.DATASET}")
    size = process_pool.count(config.workers)
    try:
        metadata = dataset.read(config.verify).metadata
    except dataset.DatasetCorruptedError as error:
        raise VerificationError(str(error)) from error
    total = sum(split["count"] for split in metadata["splits"].values())
    with process_pool.pool(size) as pool, console.progress_bar(total, "checking") as advance:
        damages = verify.find_damage(config.verify, pool, 2 * size, advance)
    for damage in damages:
        console.info(damage)
    if damages:
        raise VerificationError(f"{config.verify!r} is damaged in {len(damages)} places; the first: {damages[0]}")
    console.info(f"{config.verify}: {total:,} images intact")
    return metadata


callable_module.install(__name__, ConvertConfig, run)
if __name__ == "__main__":
    flags.main(ConvertConfig, run, __doc__)
