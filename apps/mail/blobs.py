"""Raw mail behind an interface: stored in chunks of at most 1 MB, compressed where that helps.

Nothing else reads or writes the table, so that blobs can move elsewhere.
"""

from collections.abc import Iterator, Sequence
from uuid import UUID

import zstandard

from apps.core.errors import NotFound
from apps.core.ids import new_id
from apps.mail.models import BlobChunk

CHUNK_OCTETS = 1_000_000
_WORTH_COMPRESSING = 512
_WORTH_KEEPING = 0.9
_LEVEL = 1
_MAX_CHUNKS = 64

_Encoding = BlobChunk.Encoding


def store_blobs(raws: Sequence[bytes]) -> list[UUID]:
    """Store raw mails by one statement; their ids in order. Call it in the transaction that refers to them."""
    ids = [new_id() for _ in raws]
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    chunks: list[BlobChunk] = []
    for blob_id, raw in zip(ids, raws, strict=True):
        for sequence, start in enumerate(range(0, max(len(raw), 1), CHUNK_OCTETS)):
            encoding, data = _encode(raw[start : start + CHUNK_OCTETS], compressor)
            chunks.append(BlobChunk(blob_id=blob_id, sequence=sequence, encoding=encoding, data=data))
    BlobChunk.objects.bulk_create(chunks)
    return ids


def _encode(data: bytes, compressor: zstandard.ZstdCompressor) -> tuple[int, bytes]:
    if len(data) >= _WORTH_COMPRESSING:
        packed = compressor.compress(data)
        if len(packed) < len(data) * _WORTH_KEEPING:
            return _Encoding.ZSTD, packed
    return _Encoding.PLAIN, data


def _decode(encoding: int, data: bytes | memoryview) -> bytes:
    if encoding == _Encoding.ZSTD:
        return zstandard.ZstdDecompressor().decompress(bytes(data), max_output_size=CHUNK_OCTETS)
    return bytes(data)


def iterate_blob(blob_id: UUID) -> Iterator[bytes]:
    """The raw mail, a chunk of at most 1 MB at a time; raises NotFound at the start when there is none."""
    for sequence in range(_MAX_CHUNKS):
        row = BlobChunk.objects.filter(blob_id=blob_id, sequence=sequence).values_list("encoding", "data").first()
        if row is None:
            if sequence == 0:
                raise NotFound("The raw mail of this message is no longer stored.")
            return
        data = _decode(*row)
        yield data
        if len(data) < CHUNK_OCTETS:
            return


def read_blob(blob_id: UUID) -> bytes:
    """The whole raw mail; raises NotFound when it is not stored."""
    return read_blobs([blob_id])[blob_id]


def read_blobs(blob_ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """Several raw mails by one query; raises NotFound when one is not stored."""
    parts: dict[UUID, list[bytes]] = {}
    rows = BlobChunk.objects.filter(blob_id__in=set(blob_ids)).order_by("blob_id", "sequence")
    for blob_id, encoding, data in rows.values_list("blob_id", "encoding", "data"):
        parts.setdefault(blob_id, []).append(_decode(encoding, data))
    missing = set(blob_ids) - parts.keys()
    if missing:
        raise NotFound("The raw mail of this message is no longer stored.")
    return {blob_id: b"".join(chunks) for blob_id, chunks in parts.items()}


def delete_blobs(blob_ids: Sequence[UUID]) -> int:
    """Erase raw mails; how many chunks went."""
    return BlobChunk.objects.filter(blob_id__in=list(blob_ids)).delete()[0]
