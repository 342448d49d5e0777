"""Typed settings from the environment and tallykeep.yaml."""
