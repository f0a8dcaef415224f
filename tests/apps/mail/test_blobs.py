"""Raw mail comes back octet by octet, at any size, and is gone when it is erased."""

import os

import pytest
from pytest_django import DjangoAssertNumQueries

from apps.core.errors import NotFound
from apps.core.ids import new_id
from apps.mail.blobs import CHUNK_OCTETS, delete_blobs, iterate_blob, read_blob, read_blobs, store_blobs
from apps.mail.models import BlobChunk

pytestmark = pytest.mark.django_db
ALL_OCTETS = bytes(range(256))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0",
        ALL_OCTETS,
        ALL_OCTETS * 20,
        b"x" * 511,
        b"x" * 512,
        b"x" * (CHUNK_OCTETS - 1),
        b"x" * CHUNK_OCTETS,
        b"x" * (CHUNK_OCTETS + 1),
        os.urandom(CHUNK_OCTETS),
        os.urandom(2 * CHUNK_OCTETS),
        (ALL_OCTETS * 12_000)[:3_000_000],
        b"x" * 1_500_000 + os.urandom(1_500_000) + b"\r\n.\r\n",
    ],
    ids=lambda raw: f"{len(raw)} octets",
)
def test_every_octet_comes_back(raw: bytes) -> None:
    blob_id = store_blobs([raw])[0]

    assert read_blob(blob_id) == raw
    pieces = list(iterate_blob(blob_id))
    assert b"".join(pieces) == raw
    assert max(map(len, pieces)) <= CHUNK_OCTETS


def test_no_chunk_on_disk_is_larger_than_a_megabyte() -> None:
    store_blobs([os.urandom(3_100_000), b"y" * 3_100_000])

    sizes = [len(data) for data in BlobChunk.objects.values_list("data", flat=True)]
    assert len(sizes) == 8
    assert max(sizes) <= CHUNK_OCTETS


def test_text_is_compressed_and_noise_is_not() -> None:
    noise = os.urandom(10_000)
    text_id, noise_id = store_blobs([b"All work and no play. " * 1000, noise])

    assert len(BlobChunk.objects.get(blob_id=text_id).data) < 1000
    stored = BlobChunk.objects.get(blob_id=noise_id)
    assert (stored.encoding, bytes(stored.data)) == (BlobChunk.Encoding.PLAIN, noise)


def test_a_mail_that_looks_compressed_is_not_taken_for_it() -> None:
    import zstandard

    raw = zstandard.compress(b"bomb" * 100_000)
    assert read_blob(store_blobs([raw])[0]) == raw


def test_many_are_written_and_read_by_one_statement_each(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    raws = [os.urandom(100 + number) for number in range(100)]
    with django_assert_num_queries(1):
        ids = store_blobs(raws)
    with django_assert_num_queries(1):
        found = read_blobs([*ids, ids[0]])

    assert [found[blob_id] for blob_id in ids] == raws
    with django_assert_num_queries(0):
        assert store_blobs([]) == []
        assert read_blobs([]) == {}


def test_what_is_not_stored_is_not_found() -> None:
    kept = store_blobs([b"kept"])[0]
    for read in (
        lambda: read_blob(new_id()),
        lambda: read_blobs([kept, new_id()]),
        lambda: next(iterate_blob(new_id())),
    ):
        with pytest.raises(NotFound):
            read()


def test_erasing_takes_every_chunk_of_those_and_no_others() -> None:
    ids = store_blobs([os.urandom(2_500_000), b"small", b"kept"])

    assert delete_blobs(ids[:2]) == 4
    assert delete_blobs(ids[:2]) == 0
    assert delete_blobs([]) == 0
    assert read_blob(ids[2]) == b"kept"
    with pytest.raises(NotFound):
        read_blob(ids[0])
