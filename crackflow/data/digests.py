"""Digests of the files that the images of a split come from: equal for the same file, however it was converted.

Synopsis::

    source_digests = digests.load(dataset, "test")      # uint8 [N, 32] in the order of the records, or None
"""

import csv
import os

import numpy as np

from crackflow.core.errors import UserError
from crackflow.data import dataset as dataset_io
from crackflow.data.dataset import Dataset

BYTES = 32


def load(dataset: Dataset, split: str) -> np.ndarray | None:
    """Loads the SHA-256 of the source file of each image of `split`.

    Returns:
        uint8 [N, 32] in the order of the records; tiles of one photograph share its digest. None where manifest.csv
        does not hold digests.

    Raises:
        UserError: when manifest.csv is damaged.
    """
    shards = {shard["file"] for shard in dataset.metadata["splits"][split]["shards"]}
    path = os.path.join(dataset.folder, dataset_io.MANIFEST)
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            lines = csv.DictReader(file)
            if "sha256" not in (lines.fieldnames or ()):
                return None
            digests = b"".join(bytes.fromhex(line["sha256"]) for line in lines if line["shard"] in shards)
    except FileNotFoundError:
        return None
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path!r} is damaged; restore it or convert the images again") from error
    if len(digests) != BYTES * dataset.count(split):
        raise UserError(
            f"{path!r} does not fit the shards of {dataset_io.DATASET}; restore it or convert the images again"
        )
    return np.frombuffer(digests, np.uint8).reshape(-1, BYTES)
