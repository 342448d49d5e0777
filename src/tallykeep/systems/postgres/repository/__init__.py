"""Where base backups are kept: chunks by their hash in packs, and a manifest chain that says what belongs to what."""
