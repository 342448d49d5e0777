"""Where an external queue is, as people write it."""

from __future__ import annotations

import pytest

from tallykeep.errors import ConfigError
from tallykeep.systems.postgres.offload.address import urls_of


@pytest.mark.parametrize(
    "text",
    [
        "a hunter2", "nats://u:hunter2@h:99999", "nats://u:hunter2@h:x", "nats://u:hunter2@[::1", "nats://u:hun/ter2@h",
        "http://u:hunter2@h:1", "nats://", "nats://h,nats://u:hunter2@h:-1", " , ",
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused_and_not_told(text: str) -> None:
    """Before the client is given it, which would fail in its own way."""
    with pytest.raises(ConfigError, match="queue: url: one looks like nats://host:4222") as raised:
        urls_of(text)
    assert "ter2" not in str(raised.value)


def test_urls_may_be_what_the_client_takes() -> None:
    """Several, with a user, a token, an address of IPv6, without a scheme."""
    text = "nats://u:p%40@h:4222, tls://token@[::1]:4222 ,h2,wss://h3"
    assert urls_of(text) == ("nats://u:p%40@h:4222", "tls://token@[::1]:4222", "nats://h2", "wss://h3")
