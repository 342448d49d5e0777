"""Verification of a tier: every byte of its base backups read and proved, and the WAL that makes them consistent.

| file | what |
|---|---|
| `verdict.py` | what comes of it |
| `manifest.py` | PostgreSQL's own backup_manifest |
| `content.py` | single files out of the repository |
| `ledger.py` | what is known of every chunk, in a few bytes each |
| `packs.py` | every pack read once: hash, seals, ids, checksums, pages |
| `judging.py` | what that means for one backup, file by file |
| `wal.py` | WAL from start to stop, and the rest of it |
| `verify.py` | all of it together, and writing it down |

An error of the store is an error, never a verdict: where a tier does not answer nothing is known of its backups.
"""
