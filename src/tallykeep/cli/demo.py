"""`tallykeep demo`: the embedded world, from the first commit to the summary."""

from __future__ import annotations

import argparse
import os
import signal
import time
from typing import TYPE_CHECKING

from tallykeep.units import format_duration, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallykeep.demo.summary import Summary
    from tallykeep.demo.world import World

_LEAST = 45.0  # seconds; a shorter demo cannot show its last acts


def add(parser: argparse.ArgumentParser) -> None:
    """Say what this command takes."""
    parser.description = (
        "A busy SQLite database, a real Litestream replicating it to a real S3 server, a second one to a folder; the "
        "real PostgreSQL of an LLM gateway with LiteLLM's schema and traffic; a Kafka broker with orders coming in; a "
        "PostgreSQL with payments, protected to S3; and tallykeep watching and backing up all of it. "
        "Everything runs on this machine and is gone afterwards."
    )
    parser.add_argument(
        "--for",
        dest="duration",
        metavar="DURATION",
        type=_duration,
        default=os.environ.get("DEMO_FOR") or None,
        help="end by itself after this time, such as 60s, later on a slow machine (also: DEMO_FOR); else Ctrl-C does",
    )


def run(args: argparse.Namespace) -> int:
    """Play all acts and print the summary. 0: everything expected happened."""
    from tallykeep.demo.summary import Summary

    begun = time.monotonic()
    summary, interrupted = Summary(), False

    def say(text: str) -> None:
        minutes, seconds = divmod(round(time.monotonic() - begun), 60)
        print(f"{minutes}:{seconds:02d}  {text}", flush=True)

    before = [(number, signal.signal(number, _interrupt)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        _play(summary, say, None if args.duration is None else begun + args.duration)
    except KeyboardInterrupt:
        interrupted = True
        print()
    except TimeoutError as error:
        summary.troubles.append(str(error))
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    print("\n".join(("", *summary.lines())), flush=True)
    return summary.exit_status(interrupted=interrupted)


def _play(summary: Summary, say: Callable[[str], None], deadline: float | None) -> None:
    from tallykeep.demo.acts import Play
    from tallykeep.demo.world import World

    say("Starting S3, a busy application, Litestream, PostgreSQL, Kafka and tallykeep ...")
    with World() as world:
        play = Play(world, summary, say, deadline)
        try:
            _introduce(world)
            play.first_act()
            play.second_act()
            play.third_act()
            play.fourth_act()
            say("All acts are over; all of it goes on" + (". Ctrl-C ends the demo." if deadline is None else "."))
            play.epilogue()
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave servers behind
            summary.figures.extend(play.figures())


def _introduce(world: World) -> None:
    url = f"http://127.0.0.1:{world.port}"
    gateway = f"LiteLLM's schema and traffic in PostgreSQL at {world.gateway.address}" if world.gateway else "left out"
    broker = world.kafka
    kafka = f"orders at {broker.bootstrap} -> s3://demo/kafka/demo" if broker else "left out"
    paid = f"payments at {world.payments.address} -> s3://demo/postgres" if world.payments else "left out"
    print(
        f"""
  application   commits to {world.shop.name} and {world.ledger.name} in {world.folder}
  Litestream    {world.shop.name} -> s3://demo/shop at {world.s3.endpoint}
                {world.ledger.name} -> {world.replica}
  LLM gateway   {gateway}
  Kafka         {kafka}
  PostgreSQL    {paid}
  tallykeep     {url}/metrics   {url}/readyz   {url}/status{_api(world)}

  Ask for yourself: tallykeep litestream check {world.replica} --deep{_asking(world)}
""",
        flush=True,
    )


def _api(world: World) -> str:
    return f"\n                http://127.0.0.1:{world.api_port}/ and its /api/v1/metrics" if world.gateway else ""


def _asking(world: World) -> str:
    if world.gateway is None:
        return ""
    month = time.strftime("%Y-%m")
    return f"""
                    LITELLM_DATABASE_URL={world.gateway.url} \\
                      tallykeep litellm report --month {month} --by team"""


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _duration(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds < _LEAST:
        raise argparse.ArgumentTypeError(f"{text!r} is too short for all acts: {format_duration(_LEAST)} at least")
    return seconds
