"""Reading a data set: whole published versions, resident tables, pieces from shards read in one go."""

from __future__ import annotations

import asyncio
import io
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from typing import Any, cast

import icechunk
import numpy as np
import polars as pl
import zarr
from numcodecs import Blosc, Zstd
from zarr.core.buffer import Buffer, default_buffer_prototype

from dexter_model.dataset.packing import BEFORE, NOT_ATTRIBUTES, TABLES, Performances, opened, unpack
from dexter_model.dataset.piece import Piece
from dexter_model.dataset.recordings import Recording
from dexter_model.dataset.repository import MAIN, READABLE, awaited, open_repository, patiently, root
from dexter_model.errors import InputError
from dexter_model.tally import count

_AHEAD = 3  # shards that are read while one is worked on: on S3 each is a round trip
_DECODERS: dict[str, Any] = {
    "zstd": Zstd(),
    "blosc": Blosc(),
}  # what ``packing.write_array`` compresses with, by Zarr's names
_SHARDS_KEPT = 4  # arrays of the shards used last, for pieces asked for one by one


class DatasetVersion:
    """One version of a data set, which never changes.

    Attributes:
        url: where the data set is.
        id: ``v1``, ``v2``, ...
        digest: digest of the content (every array and attribute of every piece, splits, what is quarantined), whatever
            the history of the build.
        encoder: name, version and parameters of what encoded it.
        follows: id of the version that was current when it was built; None if it was the first, or does not tell.
    """

    def __init__(self, url: str, group: zarr.Group) -> None:
        self.url = url
        self.id = str(group.attrs["version"])
        self.digest = str(group.attrs["digest"])
        self.encoder: Mapping[str, Any] = dict(group.attrs["encoder"])  # type: ignore[arg-type]
        follows = group.attrs.get("follows")
        self.follows = str(follows) if follows else None
        self._group = group
        self._kept: OrderedDict[str, dict[str, np.ndarray]] = OrderedDict()

    @cached_property
    def catalogue(self) -> pl.DataFrame:
        """A row a piece, sorted by corpus and key; ``packing.CATALOGUE`` lists the columns."""
        return self._table("catalogue")

    @cached_property
    def performances(self) -> pl.DataFrame:
        """A row a performance, in the order of the pieces; ``packing.PERFORMANCES`` lists the columns."""
        return self._table("performances")

    @cached_property
    def quarantine(self) -> pl.DataFrame:
        """A row a performance that could not be encoded: code, reason, remedy, digest of the file, traceback."""
        return self._table("quarantine")

    @cached_property
    def sources(self) -> pl.DataFrame:
        """A row a piece that was looked at: the digests of its files and of its result."""
        return self._table("sources")

    def piece(self, corpus: str, key: str) -> Piece:
        """One piece.

        Raises:
            InputError: the version has no such piece (``no_piece``), or holds no codecs (``other_encoding``).
        """
        self._refuse_unless(recordings=False)
        return cast(Piece, self.item(corpus, key))

    def pieces(self, split: str | None = None) -> Iterator[Piece]:
        """The pieces of a split (of all splits: None) in the order of the catalogue, each shard read once.

        Raises:
            InputError: the version holds no codecs (``other_encoding``).
        """
        self._refuse_unless(recordings=False)
        return cast(Iterator[Piece], self.items(split))

    def recordings(self, split: str | None = None) -> Iterator[Recording]:
        """The same of a version that holds performances without scores.

        Raises:
            InputError: it holds codecs (``other_encoding``).
        """
        self._refuse_unless(recordings=True)
        return cast(Iterator[Recording], self.items(split))

    @property
    def holds_recordings(self) -> bool:
        """Whether it holds performances by themselves, and no codecs."""
        return self.encoder["name"] == "notes"

    def _refuse_unless(self, *, recordings: bool) -> None:
        if self.holds_recordings != recordings:
            reason = f"version {self.id} holds {'recordings' if self.holds_recordings else 'codecs over scores'}"
            remedy = f"Build another with `dexter dataset build --encoding {'notes' if recordings else 'codec'}`"
            raise InputError(self.url, reason, remedy, "other_encoding")

    def refuse_other_reading(self, reading: str = "performed") -> None:
        """Refuse a version whose performances were not read so (``dataset.encodings.Notes``).

        Raises:
            InputError: it holds codecs (``other_encoding``), or performances read otherwise (``other_reading``).
        """
        self._refuse_unless(recordings=True)
        was = self.encoder["parameters"]["reading"]
        if was != reading:
            encoding = "composer" if reading == "composer" else "notes"
            remedy = f"Build another with `dexter dataset build --encoding {encoding}`"
            raise InputError(self.url, f"was read as {was}, not as {reading}", remedy, "other_reading")

    def item(self, corpus: str, key: str) -> Piece | Recording:
        """One piece, or recording, whatever the version holds.

        Raises:
            InputError: the version has no such piece (``no_piece``).
        """
        row = self._rows.get((corpus, key))
        if row is None:
            remedy = f"`dexter dataset info {self.url}` lists what it has"
            raise InputError(self.url, f"version {self.id} has no piece {corpus} {key}", remedy, "no_piece")
        return self._unpack(self._shard(row["shard"]), row)

    def items(self, split: str | None = None) -> Iterator[Piece | Recording]:
        """Pieces, or recordings, of a split (of all splits: None), whatever the version holds, each shard read once."""
        catalogue = self.catalogue if split is None else self.catalogue.filter(self.catalogue["split"] == split)
        left = Counter(catalogue["shard"])
        coming = self._read_shards(list(left))
        rows = [row for row in self._rows.values() if split in (None, row["split"])]
        shards: dict[str, dict[str, np.ndarray]] = {}
        for row in rows:
            name = row["shard"]
            if name not in shards:
                shards[name] = next(coming)
            yield self._unpack(shards[name], row)
            left[name] -= 1
            if not left[name]:
                del shards[name]

    def thin_shards(self, catalogue: Iterable[Mapping[str, Any]], alive: float) -> set[str]:
        """Shards of which these catalogue rows use less than the share ``alive``."""
        used: Counter[str] = Counter()
        for row in catalogue:
            used[row["shard"]] += row["notes"] * row["performances"]
        rows = "recorded" if self.holds_recordings else "matched"
        cells = {shard: self._group[f"shards/{shard}/{rows}"].shape[0] for shard in used}  # type: ignore[union-attr]
        return {shard for shard in used if used[shard] < alive * cells[shard]}

    @cached_property
    def _rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {(row["corpus"], row["key"]): row for row in self.catalogue.iter_rows(named=True)}

    @cached_property
    def _performances(self) -> dict[tuple[str, str], int]:
        """Where in the table of performances those of each piece begin; it has them in the order of the catalogue."""
        ends = self.catalogue["performances"].cum_sum()
        return dict(zip(self._rows, (ends - self.catalogue["performances"]).to_list(), strict=True))

    @cached_property
    def _frames(self) -> np.ndarray:
        return self.performances["frames"].cast(pl.Int32).to_numpy()

    @cached_property
    def _attributes(self) -> pl.DataFrame:
        return self.performances.drop(*NOT_ATTRIBUTES)

    def _unpack(self, arrays: dict[str, np.ndarray], row: dict[str, Any]) -> Piece | Recording:
        start = self._performances[row["corpus"], row["key"]]
        rows = slice(start, start + row["performances"])
        return unpack(arrays, row, Performances(self._attributes, rows), self._frames[rows])

    def _shard(self, name: str) -> dict[str, np.ndarray]:
        if name not in self._kept:
            self._kept[name] = self._read_shard(name)
            while len(self._kept) > _SHARDS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]

    def _read_shards(self, names: Iterable[str]) -> Iterator[dict[str, np.ndarray]]:
        """The arrays of shards in this order, some read while the one before is worked on; the first ones from now."""
        threads = ThreadPoolExecutor(_AHEAD)
        left = iter(names)
        coming = deque(threads.submit(self._read_shard, name) for name in islice(left, _AHEAD))

        def read() -> Iterator[dict[str, np.ndarray]]:
            try:
                while coming:
                    arrays = coming.popleft().result()
                    coming.extend(threads.submit(self._read_shard, name) for name in islice(left, 1))
                    yield arrays
            finally:
                threads.shutdown(cancel_futures=True)

        return read()

    def _read_shard(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a shard by name, fetched at the same time: on S3 each costs a round trip."""
        shard = patiently(self.url, lambda: self._group[f"shards/{name}"])
        assert isinstance(shard, zarr.Group)
        arrays = patiently(self.url, lambda: {key: array for key, array in shard.arrays() if key != "manifest"})
        chunks: dict[str, Buffer | None] = {}

        async def read() -> None:
            left = [key for key in arrays if key not in chunks]
            reading = (_only_chunk(arrays[key]) for key in left)
            found = dict(zip(left, await asyncio.gather(*reading, return_exceptions=True), strict=True))
            wrong = [each for each in found.values() if isinstance(each, BaseException)]
            chunks.update({key: each for key, each in found.items() if not isinstance(each, BaseException)})
            if wrong:
                raise wrong[0]

        patiently(self.url, lambda: awaited(read))
        values = {key: _decoded(array, chunks[key]) for key, array in arrays.items()}
        count("store_bytes", sum(each.nbytes for each in values.values()), direction="read")
        told: dict[str, Any] = {key: array.attrs for key, array in arrays.items()}
        return opened(values, told)

    def _table(self, name: str) -> pl.DataFrame:
        data = patiently(self.url, lambda: read_array(self._group, f"tables/{name}"))
        table = pl.read_parquet(io.BytesIO(data.tobytes()))
        later = [column for column in TABLES[name] if column not in table.columns]
        return table.with_columns(pl.lit(BEFORE.get(column)).alias(column) for column in later)


async def _only_chunk(array: zarr.Array) -> Buffer | None:
    """What is stored of an array that is one chunk; None where nothing is, since all of it is fill."""
    path = "/".join([array.path, "c", *("0" * array.ndim)])
    return await array.store.get(path, default_buffer_prototype())


def _decoded(array: zarr.Array, chunk: Buffer | None) -> np.ndarray:
    """The whole array. Zarr would decode it in the loop that fetches, and copy it once more."""
    if chunk is None:
        return np.full(array.shape, array.fill_value, array.dtype)
    codecs: Any = array.metadata.to_dict()["codecs"]
    decoded = np.empty(array.shape, array.dtype)
    _DECODERS[codecs[-1]["name"]].decode(chunk.as_numpy_array(), out=decoded)
    return decoded


def open_version(url: str, version: str | None = None) -> DatasetVersion:
    """Open a version of a data set; a build under way does not disturb it.

    Args:
        url: a folder or ``s3://bucket/prefix``.
        version: ``v1``, ``v2``, ...; the current one when None.

    Raises:
        InputError: no data set there (``no_dataset``), or no such version (``no_version``).
    """
    repository = open_repository(url)
    current = patiently(url, lambda: current_version(repository, url))
    if current is None:
        remedy = "Finish the build with `dexter dataset build`"
        raise InputError(url, "holds no finished version", remedy, "no_dataset")
    if version is None or version == current.id:
        return current
    known = _versions(repository, url)
    if version not in known:
        raise InputError(url, f"has no version {version}", f"Choose one of {', '.join(known)}", "no_version")
    group = patiently(url, lambda: root(repository.readonly_session(tag=version).store))
    return DatasetVersion(url, group)


def current_version(repository: icechunk.Repository, url: str) -> DatasetVersion | None:
    """The current version of an open repository; None when nothing was published yet.

    Raises:
        InputError: it was written in a format of another time (``dataset_format``).
    """
    group = root_group(repository, MAIN)
    if group is None or "format" not in group.attrs:
        return None
    if group.attrs["format"] not in READABLE:
        reason = f"is of the format {group.attrs['format']}, which this version of dexter does not know"
        raise InputError(url, reason, "Read it with the dexter that wrote it, or build it anew", "dataset_format")
    return DatasetVersion(url, group)


def list_versions(url: str) -> list[str]:
    """The versions of a data set, oldest first."""
    return _versions(open_repository(url), url)


def _versions(repository: icechunk.Repository, url: str) -> list[str]:
    return sorted(patiently(url, repository.list_tags), key=lambda tag: int(tag[1:]))


def root_group(repository: icechunk.Repository, branch: str) -> zarr.Group | None:
    """Everything at the tip of a branch, to read; None when nothing was committed yet."""
    try:
        return root(repository.readonly_session(branch).store)
    except zarr.errors.GroupNotFoundError:
        if next(repository.ancestry(branch=branch)).parent_id is not None:
            raise  # something was, and this is a fault of storage
        return None


def read_array(group: zarr.Group, path: str) -> np.ndarray:
    """A whole array of a group."""
    array = group[path]
    assert isinstance(array, zarr.Array)
    read = np.asarray(array[...])
    count("store_bytes", read.nbytes, direction="read")
    return read
