"""WebDataset shards: plain tars that are written fast, walked by their headers, grouped and verified."""

from schemas.shards.header import TRAILER, entry_size, header_size, headers
from schemas.shards.reader import SampleMembers, read_samples, samples, split_name, walk
from schemas.shards.scan import BROKEN, Member, Reason, Skipped, TruncatedShard
from schemas.shards.sink import Data, ShardInfo, Written, WrittenColumns, shard_digest
from schemas.shards.source import Range
from schemas.shards.verify import Expected, Mismatch, verify
from schemas.shards.writer import Entry, ShardWriter

__all__ = [
    "BROKEN",
    "TRAILER",
    "Data",
    "Entry",
    "Expected",
    "Member",
    "Mismatch",
    "Range",
    "Reason",
    "SampleMembers",
    "ShardInfo",
    "ShardWriter",
    "Skipped",
    "TruncatedShard",
    "Written",
    "WrittenColumns",
    "entry_size",
    "header_size",
    "headers",
    "read_samples",
    "samples",
    "shard_digest",
    "split_name",
    "verify",
    "walk",
]
