"""Tier 2: WAL and base backups copied from local disk to object storage.

Reading order: items.py (what is to be copied), storing.py (how an object gets there for certain), uploading.py,
partial.py and copying.py (WAL, WAL of a segment that is not complete, base backups), ownership.py (whose tier 2 it
is), held.py and standing.py (what tier 2 holds), work.py, reconciling.py (the truth: the tiers compared), the queue
(nats_server.py, address.py, jetstream.py, consuming.py, dead_letters.py), deleting.py, collector.py, offload.py.
"""
