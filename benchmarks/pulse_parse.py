"""A metrics page of 50 MB read with all its labels, against litellm-pulse's way and prometheus_client's parser.

litellm-pulse 0.3 goes over the page twice, once for totals and once for the label `model`, with one regular expression
a line and one for the labels: its approach is written here anew. It keeps one label; prometheus_client and ours keep
all. Ours is measured on the first page of a source, and on the next one, which it mostly knows. Peak memory is
measured apart, in Python's own allocations.
"""

from __future__ import annotations

import gc
import re
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from functools import partial

from benchmarks import support

from tallykeep.exposition.parse import Parser, labels_of

LINE = re.compile(
    r"^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>[^}]*)\})?\s+(?P<value>[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)"
)
LABELS = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
FAMILIES = ("spend", "total_tokens", "input_tokens", "output_tokens", "requests")


def main() -> None:
    parser = support.parser(__doc__)
    parser.add_argument("--megabytes", type=float, default=50.0)
    arguments = parser.parse_args()
    data = page(int(arguments.megabytes * 1e6))
    text = data.decode()
    report = support.Report(f"Parsing a metrics page of {len(data) / 1e6:.0f} MB, {data.count(b'} ')} samples")
    check(data)
    ours, again, passes = [], [], []
    for _ in range(arguments.rounds):
        reader = Parser()
        ours.append(timed(partial(reader.parse, data)))
        again.append(timed(partial(reader.parse, data)))
        passes.append(timed(lambda: two_passes(text)))
    library = [timed(lambda: whole(text))]
    report.compare("first page", ours, passes, against="two passes of regular expressions", goal=8)
    report.compare("next page", again, passes, against="two passes of regular expressions", goal=8)
    report.compare("first page", ours, library, against="prometheus_client", goal=30)
    report.compare("next page", again, library, against="prometheus_client", goal=30)
    report.figure("peak memory, page included", [peak(data)], unit="x the page", at_most=3)
    report.finish(arguments)


def page(size: int) -> bytes:
    """Series such as LiteLLM prints, family by family: 15 labels, 450 bytes, most label values repeated."""
    lines: list[str] = []
    for family in FAMILIES:
        lines.append(f"# TYPE litellm_{family}_metric_total counter")
        length, user = 0, 0
        while length < size / len(FAMILIES):
            lines.append(series(family, user))
            length += len(lines[-1]) + 1
            user += 1
    return ("\n".join(lines) + "\n").encode()


def series(family: str, user: int) -> str:
    key, model, team = user % 997, user % 20, user % 40
    return (
        f'litellm_{family}_metric_total{{api_key_alias="key-{key}",api_provider="openai",client_ip="10.0.{key % 200}.'
        f'{key % 251}",end_user="None",hashed_api_key="{key:064x}",model="gpt-{model}",model_id="{model:064x}",'
        f'org_alias="None",org_id="None",requested_model="gpt-{model}",team="team-{team}",team_alias="Team {team}",'
        f'user="user-{user}",user_agent="python/3.{user % 9}",user_email="user-{user}@example.org"}} {user * 0.25}'
    )


def two_passes(text: str) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Totals by name, then by name and model: a regular expression a line each time."""
    totals: dict[str, float] = defaultdict(float)
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#") and (found := LINE.match(line)):
            totals[found["name"]] += float(found["value"])
    models: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#") or not (found := LINE.match(line)) or not found["labels"]:
            continue
        labels = {name: unescaped(value) for name, value in LABELS.findall(found["labels"])}
        if "model" in labels:
            models[found["name"]][labels["model"]] += float(found["value"])
    return totals, models


def unescaped(value: str) -> str:
    return value.replace('\\"', '"').replace("\\\\", "\\").replace("\\n", "\n")


def whole(text: str) -> int:
    from prometheus_client.parser import text_string_to_metric_families

    return sum(len(family.samples) for family in text_string_to_metric_families(text))


def check(data: bytes) -> None:
    """The sides agree on a part of the page."""
    head = data[: data.index(b"\n", 200_000) + 1]
    samples = Parser().parse(head).samples
    totals, _ = two_passes(head.decode())
    assert abs(sum(value for _, value in samples) - sum(totals.values())) < 1e-6
    assert whole(head.decode()) == len(samples)
    assert len(labels_of(samples[0][0])) == 15


def timed(function: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    function()
    return time.process_time() - start


def peak(data: bytes) -> float:
    """Highest allocation while a first page is parsed, with the page itself, by the size of the page."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = Parser().parse(data)
        highest = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept.samples
    return (highest + len(data)) / len(data)


if __name__ == "__main__":
    main()
