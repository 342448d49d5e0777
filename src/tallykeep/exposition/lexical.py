"""How numbers, label values and help texts are spelt on a Prometheus page.

Not the place for whole lines: see lines.py.
Source: Prometheus text format 0.0.4; OpenMetrics 1.0; prometheus_client 0.26, whose bytes these are.
"""

from __future__ import annotations

import math


def go_float(value: float) -> str:
    """A number as Go prints it: "1.0", "1e+06", "+Inf", "NaN"."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    text = repr(value)
    point = text.find(".")
    if value > 0 and point > 6:  # Go turns to exponents sooner than Python; prometheus_client: positive numbers only
        mantissa = f"{text[0]}.{text[1:point]}{text[point + 1 :]}".rstrip("0.")
        return f"{mantissa}e+{point - 1:02d}"
    return text


def label_value(text: str) -> str:
    """A label value between its quotes. What UTF-8 cannot carry (an undecodable file name) is spelt \\udcXX."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def help_text(text: str) -> str:
    """The help of a family in text 0.0.4, which leaves quotes alone; OpenMetrics escapes it as a label value."""
    return text.replace("\\", r"\\").replace("\n", r"\n")
