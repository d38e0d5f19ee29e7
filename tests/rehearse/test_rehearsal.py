"""A rehearsal plays the real policy: the same seed the same play, cohorts as single messages, and better than published schedules."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from mailfleet.base.errors import ConfigError
from mailfleet.cli.app import app
from mailfleet.config.models import load_model, shipped_models
from mailfleet.config.rehearsal import plans, rehearse, understanding
from mailfleet.policy.outcome import Action
from mailfleet.rehearse.model import CohortModel
from mailfleet.rehearse.plans import PUBLISHED
from mailfleet.rehearse.play import Played

UNDERSTAND = understanding()


def played(
    model: str, plan: str, *, target: int = 100_000, days: int = 50, seed: int = 1, one_by_one: bool = False
) -> Played:
    return rehearse(
        model=model,
        plan=plan,
        target=target,
        days=days,
        sources=4,
        seed=seed,
        understand=UNDERSTAND,
        one_by_one=one_by_one,
    )


def test_the_same_seed_plays_the_same() -> None:
    assert played("typical", "adaptive", days=12) == played("typical", "adaptive", days=12)
    assert played("typical", "adaptive", days=12) != played("typical", "adaptive", days=12, seed=2)


@pytest.mark.parametrize("model", ["typical", "strict"])
def test_cohorts_and_single_messages_agree(model: str) -> None:
    """Chance is drawn in another order, so seeds differ; what they come to does not."""
    cohorts = [played(model, "adaptive", target=3000, days=12, seed=seed) for seed in range(4)]
    singles = [played(model, "adaptive", target=3000, days=12, seed=seed, one_by_one=True) for seed in range(4)]
    for day in range(12):
        one = statistics.mean(some.delivered_by_day[day] for some in cohorts)
        other = statistics.mean(some.delivered_by_day[day] for some in singles)
        assert abs(one - other) <= 0.1 * max(one, other) + 20, f"day {day + 1}: {one} and {other}"
    shares = [statistics.mean(some.deferred_share for some in plays) for plays in (cohorts, singles)]
    assert abs(shares[0] - shares[1]) < 0.02


@pytest.mark.parametrize("model", shipped_models())
def test_the_words_of_models_are_understood_as_they_are_meant(model: str) -> None:
    made = load_model(model, 1)
    assert isinstance(made, CohortModel)
    for one in made._manners.values():
        provider = one.name if one.name != "others" else ""
        assert UNDERSTAND(provider, one.defers)[0] in ("rate-limited", "too-many-connections")
        assert UNDERSTAND(provider, one.defers)[2]
        assert UNDERSTAND(provider, one.greylists)[0] == "greylisted"
        assert UNDERSTAND(provider, one.blocks)[0] in ("ip-reputation", "ip-blocklisted", "domain-reputation")
        assert UNDERSTAND(provider, one.bounces) == ("unknown-user", UNDERSTAND(provider, one.bounces)[1], False)
    assert Action.DEFER


@pytest.mark.parametrize("model", shipped_models())
def test_adaptive_is_not_much_slower_than_the_best_and_defers_little(model: str) -> None:
    ours = played(model, "adaptive")
    assert ours.days_to_target is not None
    assert ours.deferred_share < 0.05
    for plan in PUBLISHED:
        other = played(model, plan)
        if other.days_to_target is not None:
            assert ours.days_to_target <= other.days_to_target * 1.1
        assert ours.deferred_share < other.deferred_share + 0.005 or other.days_to_target is None


def test_a_persons_own_model_in_python(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from collections import Counter\n"
        "class Mine:\n"
        "    providers = {'gmail': 1.0}\n"
        "    def offer(self, now, source, provider, attempted, engaged_share):\n"
        "        from mailfleet.rehearse.model import Answer\n"
        "        return Answer(Counter({'': attempted}))\n"
    )
    found = played(str(path), "standard", target=1000, days=4)
    assert found.delivered_by_day[0] == 400, "four sources, a hundred each on their first day"
    assert found.deferred_share == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[provider]", "cannot be read"),
        ('[[provider]]\nname = "x"\nshare = 1.0\nfloor = 5', "growth"),
        ('[[provider]]\nname = "x"\nshare = 1.0\nfloor = 0\ngrowth = 2.0\nceiling = 9', "above 0"),
    ],
)
def test_a_wrong_model_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "model.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_model(str(path), 1)
    assert said in f"{raised.value.where} {raised.value}"


def test_the_command_says_it_in_json_and_draws_it(tmp_path: Path) -> None:
    picture = tmp_path / "play.svg"
    words = ["rehearse", "--days", "10", "--target", "20000", "--sources", "2", "--plot", str(picture), "--json"]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output
    answer = json.loads(ran.output)
    assert {"days_to_target", "deferred_share", "blocked_source_days", "delivered_by_day"} <= set(answer)
    assert len(answer["delivered_by_day"]) == 10
    assert "<title>adaptive, 2 sources, typical providers: target reached on day" in picture.read_text()


def test_it_draws_a_png_and_nothing_else(tmp_path: Path) -> None:
    words = ["rehearse", "--days", "10", "--target", "20000", "--sources", "2", "--plot"]
    ran = CliRunner().invoke(app, [*words, str(tmp_path / "play.png")])
    assert ran.exit_code == 0, ran.output
    with Image.open(tmp_path / "play.png") as picture:
        assert picture.size == (1720, 720)
        colours = {colour for _, colour in picture.getcolors(maxcolors=100_000)}  # type: ignore[union-attr]  # few enough
    assert {(47, 125, 91), (255, 255, 255)} <= colours
    ran = CliRunner().invoke(app, [*words, str(tmp_path / "play.gif")])
    assert ran.exit_code == 1
    assert "ends in .svg or .png" in ran.output


def test_by_the_last_day_where_none_is_given() -> None:
    words = ["rehearse", "--target", "100000", "--days", "8", "--by-day", "--plan", "standard"]
    answer = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    assert answer["days_to_target"] <= 8
    assert answer["sources"] > 1
    ran = CliRunner().invoke(app, [*words, "--sources", "1"])
    assert "too late for day 8" in ran.output


def test_how_many_sources_it_takes() -> None:
    words = ["rehearse", "--target", "100000", "--by-day", "8", "--days", "20", "--json"]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output
    answer = json.loads(ran.output)
    assert answer["days_to_target"] <= 8
    assert 1 <= answer["sources"] <= 16


def test_every_plan_can_be_played() -> None:
    for plan in plans():
        assert sum(played("lenient", plan, days=3).delivered_by_day) > 0
    with pytest.raises(ConfigError, match="no plan"):
        played("lenient", "hope", days=1)
