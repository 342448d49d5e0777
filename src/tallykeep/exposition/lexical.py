"""How numbers, label values and help texts are spelt on a Prometheus page.

Not the place for whole lines: see lines.py.
Source: Prometheus text format 0.0.4; OpenMetrics 1.0; prometheus_client 0.26, whose bytes these are.
"""

from __future__ import annotations

import math

_EXPONENTS = [f"e+{digits - 1:02d}" for digits in range(17)]  # by digits before the point


def go_float(value: float) -> str:
    """A number as Go prints it: "1.0", "1e+06", "+Inf", "NaN"."""
    if 1e6 <= value < 1e16:  # Go turns to exponents sooner than Python; prometheus_client: for positive numbers only
        text = repr(value)
        point = text.find(".")
        return f"{text[0]}.{text[1:point]}{text[point + 1 :]}".rstrip("0.") + _EXPONENTS[point]
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def label_value(text: str) -> str:
    """A label value between its quotes. What UTF-8 cannot carry (an undecodable file name) is spelt \\udcXX."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def help_text(text: str) -> str:
    """The help of a family in text 0.0.4, which leaves quotes alone; OpenMetrics escapes it as a label value."""
    return text.replace("\\", r"\\").replace("\n", r"\n")
