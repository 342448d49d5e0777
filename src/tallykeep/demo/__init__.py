"""The embedded world: real servers from wheels, small and busy."""
