"""LTX, the format Litestream replicates in: one noun a file, reading only.

In reading order: txid, name, header, page, index, trailer, checksum are the parts of a file (docs/formats/ltx.md has
the offsets); tail and decoder put them together; verify judges whole files; pageset adds up what several cover.
Source: superfly/ltx (format version 3), and files that Litestream 0.5.17 wrote.
"""

from tallykeep.systems.litestream.ltx.decoder import Decoder
from tallykeep.systems.litestream.ltx.error import LtxError, Reason
from tallykeep.systems.litestream.ltx.header import HEADER_SIZE, Header, lock_page
from tallykeep.systems.litestream.ltx.index import MIN_SIZE, TAIL_SIZE, Tail, index_pages
from tallykeep.systems.litestream.ltx.name import LtxName
from tallykeep.systems.litestream.ltx.page import Page
from tallykeep.systems.litestream.ltx.pageset import PageSet
from tallykeep.systems.litestream.ltx.trailer import Trailer
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.systems.litestream.ltx.verify import LtxSummary, verify, verify_stream

__all__ = [
    "HEADER_SIZE",
    "MIN_SIZE",
    "TAIL_SIZE",
    "Decoder",
    "Header",
    "LtxError",
    "LtxName",
    "LtxSummary",
    "Page",
    "PageSet",
    "Reason",
    "Tail",
    "Trailer",
    "Txid",
    "index_pages",
    "lock_page",
    "verify",
    "verify_stream",
]
