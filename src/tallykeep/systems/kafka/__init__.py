"""Kafka: topics backed up and restored byte for byte."""
