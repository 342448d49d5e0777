"""Listeners: what is asked over HTTP. Reads snapshots and health; knows no system by name."""
