"""Figures kept by differences are those made afresh, whatever came, went and was renamed in between."""

from __future__ import annotations

import random

import pytest

from tallykeep.metrics import Sample
from tallykeep.systems.litellm.cells import NANO, Axis, Cells, Series, Sums, add
from tallykeep.systems.litellm.entities import KEY, ORGANIZATION, TEAM, USER, Entities, Key
from tallykeep.systems.litellm.figures import AXES, Figures, windows
from tallykeep.systems.litellm.groups import Groups
from tallykeep.systems.litellm.ledger import Block, Ledger
from tallykeep.systems.litellm.tally import MINUTE, Tally

NOW = 1_800_000_000 // 86400 * 86400.0
LENGTHS = windows(30 * 86400, 86400, 3600)


def cells(rng: random.Random) -> Cells:
    """Some requests, on every axis."""
    found: Cells = {}
    for _ in range(rng.randrange(4)):
        status = rng.choice(["success", "failure"])
        model = rng.choice(["gpt", "claude"])
        sums = Sums(1, rng.randrange(NANO), 2, 3, 5, 1, 0, 0)
        for axis, labels in (
            (Axis.MODEL, (model, "openai", status, "Oops" if status == "failure" else "")),
            (Axis.USER, (rng.choice("uvw"), model)),
            (Axis.TEAM, (rng.choice("st"), model)),
            (Axis.ORGANIZATION, (rng.choice(["o", "none"]), model)),
            (Axis.KEY, (rng.choice("klm"),)),
            (Axis.TAG, (rng.choice(["red", "blue"]),)),
            (Axis.DURATION, (model, str(rng.randrange(14)))),
            (Axis.DETAIL, (model, "reasoning")),
        ):
            add(found, Series(axis, labels), sums)
    return found


def somebody(rng: random.Random) -> Entities:
    """Keys and users that come, go and change their names."""
    keys = {hash: Key(hash, "sk-...1", rng.choice(["bot", "none"]), "", "", "", None) for hash in rng.sample("klm", 2)}
    aliases = {(KEY, hash): key.alias for hash, key in keys.items()}
    aliases |= {(USER, user): rng.choice(["Ann", "Ben"]) for user in rng.sample("uvw", 2)}
    return Entities(keys=keys, aliases=aliases | {(TEAM, "s"): "search", (ORGANIZATION, "o"): "Acme"})


def page(figures: Figures, everybody: Entities) -> dict[tuple[str, ...], object]:
    figures.update(everybody)
    found: dict[tuple[str, ...], object] = {}
    for sample in figures.samples(NOW):
        series = (sample.family.name, *sample.labels)
        assert series not in found, f"{series} stands twice"
        found[series] = sample.value
    return found


@pytest.mark.parametrize("seed", range(12))
def test_kept_figures_equal_fresh_ones(seed: int) -> None:
    """After any history of refreshes the kept figures are those that a restart would make."""
    rng = random.Random(seed)
    ledger = Ledger(None)
    tally = Tally(ledger, LENGTHS, NOW, AXES)
    figures = Figures(tally)
    now, everybody = NOW, somebody(rng)
    for _ in range(30):
        now += rng.choice([0, 60, 1800, 90000])
        tally.advance(now)
        first = int(now) // MINUTE * MINUTE - 5 * MINUTE
        minutes = [first + MINUTE * at for at in range(5)]
        read = ((at, cells(rng)) for at in minutes)
        tally.reopen(first, {at: Block(at, at + MINUTE, found, found) for at, found in read if found})
        if rng.random() < 0.3:
            everybody = somebody(rng)
        tally.commit()
        if rng.random() < 0.7:
            kept = page(figures, everybody)
            assert kept == page(Figures(Tally(ledger, LENGTHS, now, AXES)), everybody)


def dollars(figures: Figures, everybody: Entities, family: str) -> dict[tuple[str, ...], object]:
    return {series[1:]: value for series, value in page(figures, everybody).items() if series[0] == family}


def test_a_counter_leaves_with_its_entity_and_its_rows() -> None:
    """Of a deleted user the window and the counter stay while its rows stand in the window, and return with them."""
    tally = Tally(Ledger(None), LENGTHS, NOW, AXES)
    figures = Figures(tally)
    at = int(NOW) - 3600
    spent = {Series(Axis.USER, ("u", "gpt")): Sums(1, 2 * NANO)}
    tally.reopen(at, {at: Block(at, at + MINUTE, spent, spent)})
    named = Entities(aliases={(USER, "u"): "Ann"})
    assert dollars(figures, named, "litellm_user_spend_dollars_total") == {("u", "Ann"): 2.0}
    assert dollars(figures, Entities(), "litellm_user_spend_dollars_total") == {("u", "none"): 2.0}
    tally.advance(NOW + 31 * 86400)
    assert dollars(figures, Entities(), "litellm_user_spend") == {}
    assert dollars(figures, Entities(), "litellm_user_spend_dollars_total") == {}
    assert dollars(figures, named, "litellm_user_spend_dollars_total") == {("u", "Ann"): 2.0}


def test_groups_forget_what_has_no_rows() -> None:
    """A group whose last row went is gone, one that lost some has what is left."""
    groups = Groups(Axis.USER, 0)
    one, two = Series(Axis.USER, ("u", "a")), Series(Axis.USER, ("u", "b"))
    groups.update([one, two], {one: Sums(1, 10), two: Sums(2, 20)})
    assert groups.sums == {("u",): Sums(3, 30)}
    groups.update([one], {two: Sums(2, 20)})
    assert groups.sums == {("u",): Sums(2, 20)}
    groups.update([two], {})
    assert groups.sums == {}
    assert groups.changed == {("u",)}


def test_only_what_was_touched_is_made_anew() -> None:
    """Samples of series that did not change are the very objects of the last time."""
    tally = Tally(Ledger(None), LENGTHS, NOW, AXES)
    figures = Figures(tally)
    at = int(NOW) - 3600
    quiet = {Series(Axis.USER, ("u", "gpt")): Sums(1, NANO)}
    tally.reopen(at, {at: Block(at, at + MINUTE, quiet, quiet)})
    figures.update(Entities())
    before = {id(sample) for sample in figures.samples(NOW)}
    loud = {Series(Axis.USER, ("v", "gpt")): Sums(1, NANO)}
    tally.reopen(at + MINUTE, {at + MINUTE: Block(at + MINUTE, at + 2 * MINUTE, loud, loud)})
    figures.update(Entities())

    def of(samples: list[Sample], user: str) -> list[Sample]:
        return [sample for sample in samples if sample.labels[:1] == (user,)]

    after = list(figures.samples(NOW))
    assert all(id(sample) in before for sample in of(after, "u"))
    assert len(of(after, "v")) == 2
