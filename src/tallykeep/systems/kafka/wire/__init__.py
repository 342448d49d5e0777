"""Record batches, Kafka's unit on the wire and on disk: read by their headers, opened only where they must be.

In reading order: header and batch are all that the data path needs, and fetch the one request that brings them; codec
(with zstd and snappy) tells how large records are uncompressed; record, varint and rewrite are for the few batches
that cannot be copied as they are. docs/formats/kafka-record-batch.md has the offsets.
Source: Apache Kafka 4.1, DefaultRecordBatch and DefaultRecord.
"""

from tallykeep.systems.kafka.wire.batch import Batch, only, walk
from tallykeep.systems.kafka.wire.codec import announces_size, uncompressed_size
from tallykeep.systems.kafka.wire.error import BatchError, Reason
from tallykeep.systems.kafka.wire.fetch import Aborted
from tallykeep.systems.kafka.wire.header import HEADER_SIZE, BatchHeader, Codec
from tallykeep.systems.kafka.wire.record import Record, decode_records
from tallykeep.systems.kafka.wire.rewrite import encode_batch, stamped

__all__ = [
    "HEADER_SIZE",
    "Aborted",
    "Batch",
    "BatchError",
    "BatchHeader",
    "Codec",
    "Reason",
    "Record",
    "announces_size",
    "decode_records",
    "encode_batch",
    "only",
    "stamped",
    "uncompressed_size",
    "walk",
]
