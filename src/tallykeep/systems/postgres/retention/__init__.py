"""What is kept, and what is let go: rules, two phases, and the WAL that no backup needs any more."""
