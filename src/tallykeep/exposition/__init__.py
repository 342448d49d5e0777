"""Snapshots and catalogues as bytes: Prometheus pages, reference docs, alert rules. Pure: no I/O."""
