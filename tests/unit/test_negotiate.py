from __future__ import annotations

import pytest

from tallykeep.exposition.page import Format
from tallykeep.web.negotiate import Encoding, choose_encoding, choose_format

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        ("text/html,*/*;q=0.8", Format.TEXT),
        ("application/json", Format.TEXT),
        (PROMETHEUS_2, Format.OPENMETRICS),
        (PROMETHEUS_3, Format.OPENMETRICS),
        ("application/openmetrics-text", Format.OPENMETRICS),
        ("APPLICATION/OpenMetrics-Text; Version=1.0.0", Format.OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"', Format.OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1", Format.TEXT),
        ("application/openmetrics-text;q=0", Format.TEXT),
        ("application/openmetrics-text;q=0.4,text/plain;q=0.5", Format.TEXT),
        ("application/openmetrics-text;q=nonsense", Format.TEXT),
        (";;q=,,=", Format.TEXT),
    ],
)
def test_the_heavier_format_is_sent(accept: str, format: Format) -> None:
    """Weights decide, OpenMetrics must be asked for by name, and whoever asks for nothing we have gets text."""
    assert choose_format(accept) is format


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("", Encoding.IDENTITY),
        ("gzip", Encoding.GZIP),
        ("GZIP;q=1.0", Encoding.GZIP),
        ("gzip, deflate, br, zstd", Encoding.ZSTD),
        ("gzip;q=1.0, zstd;q=0.5", Encoding.GZIP),
        ("gzip;q=0", Encoding.IDENTITY),
        ("gzip;q=0.5, identity", Encoding.IDENTITY),
        ("gzip;q=0.5, identity;q=0.2", Encoding.GZIP),
        ("*", Encoding.ZSTD),
        ("zstd;q=0, *;q=0.1", Encoding.GZIP),
        ("identity;q=0", Encoding.IDENTITY),
        ("br", Encoding.IDENTITY),
        ("gzip;q=nan", Encoding.IDENTITY),
        ("gzip;q=7", Encoding.IDENTITY),
    ],
)
def test_the_heavier_coding_is_sent(accept: str, encoding: Encoding) -> None:
    """Weights decide; of equals the smallest; a coding with q=0 is never used."""
    assert choose_encoding(accept) is encoding
