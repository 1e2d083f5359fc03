from __future__ import annotations

import numpy as np
from test_dataset_store import FAILURE, assert_equal, piece, publish

from dexter_model.dataset.store import list_versions, open_version


def test_a_store_on_s3_is_as_one_in_a_folder(s3_bucket: str) -> None:
    url = f"{s3_bucket}/lab/store"
    publish(url, [[piece("a"), piece("b")], [piece("c")]], (FAILURE,))
    version = open_version(url)
    for key in "cab":
        assert_equal(version.piece("TEST", key), piece(key))
    publish(url, [[piece("a")]])
    assert list_versions(url) == ["v1", "v2"]
    assert np.array_equal(open_version(url, "v1").catalogue["key"], ["a", "b", "c"])
