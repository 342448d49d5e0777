"""Objects by key, on any backend: one protocol, one conformance suite."""
