"""Of which files the images of a split are: equal for the same file, however it was converted.

Synopsis::

    found = digests.load(made, "test")        # uint8 [N, 32] in the order of the records, or None
"""

import csv
import os

import numpy as np

from crackflow.core.errors import UserError
from crackflow.data import dataset
from crackflow.data.dataset import Dataset

BYTES = 32


def load(made: Dataset, split: str) -> np.ndarray | None:
    """uint8 [N, 32]: SHA-256 of the source file of each image of `split`, in the order of its records; windows of one
    photograph have its digest. None where manifest.csv does not tell. Raises: UserError when it is damaged."""
    shards = {shard["file"] for shard in made.facts["splits"][split]["shards"]}
    path = os.path.join(made.folder, dataset.MANIFEST)
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            lines = csv.DictReader(file)
            if "sha256" not in (lines.fieldnames or ()):
                return None
            found = b"".join(bytes.fromhex(line["sha256"]) for line in lines if line["shard"] in shards)
    except FileNotFoundError:
        return None
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path!r} is damaged; restore it or convert the images again") from error
    if len(found) != BYTES * made.count(split):
        raise UserError(
            f"{path!r} does not fit the shards of {dataset.DATASET}; restore it or convert the images again"
        )
    return np.frombuffer(found, np.uint8).reshape(-1, BYTES)
