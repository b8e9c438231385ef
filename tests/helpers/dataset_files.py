"""A dataset on the disk, to be damaged."""

import shutil

import pytest

from tests.helpers import support


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    support.converted(support.photos(directory / "photos", 12), directory / "data", shards=2)
    return directory / "data"


@pytest.fixture
def data(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "data")
