"""Going on after lost connections, and what each fault gives: no phone, no adb."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from android_bench.adb.transport import ConnectionLost
from android_bench.errors import BenchError
from android_bench.phones.conditions import QuickState
from android_bench.phones.folder import NoSpace
from android_bench.phones.resilient_runner import MOST_LOSSES, ResilientRunner
from android_bench.phones.rounds import ScriptInterrupted, in_order
from android_bench.phones.script import Frame
from android_bench.records import Failure, ModelFile, Round

Make = Callable[..., Any]
LOST = ConnectionLost("cable")


class Phone:
    """Plays, per visit, an outcome or an exception; the same model again plays on."""

    def __init__(self, plays: dict[str, list[Any]], default: Round) -> None:
        self.plays, self.default = plays, default
        self.calls: list[list[str]] = []
        self.recovered: list[ConnectionLost | None] = []

    def run(self, models: Sequence[ModelFile]) -> Iterator[Round | Failure]:
        self.calls.append([model.name for model in models])
        for model in models:
            play = self.plays.get(model.name, [])
            outcome = play.pop(0) if play else self.default
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome

    def recover(self, lost: ConnectionLost | None) -> None:
        self.recovered.append(lost)


@pytest.fixture
def visit(round_of: Make, model_of: Make) -> Make:
    def visit(most: int = 9, **plays: list[Any]) -> tuple[Phone, dict[str, Any]]:
        phone = Phone(plays, round_of(100.0))
        resuming = ResilientRunner(phone.run, phone.recover, most)
        seen: dict[str, Any] = {}
        for model, outcome in resuming.visit([model_of(name) for name in "abcd"]):
            assert model.name not in seen, "a second row"
            seen[model.name] = outcome
        assert list(seen) == list("abcd"), "a lost row, or another order"
        return phone, seen

    return visit


def broken(running: bool, lost: ConnectionLost | None) -> ScriptInterrupted:
    return ScriptInterrupted("broke off", running, lost)


def test_a_model_in_flight_is_run_again(visit: Make) -> None:
    phone, seen = visit(b=[broken(True, LOST)])
    assert all(isinstance(outcome, Round) for outcome in seen.values())
    assert phone.calls == [["a", "b", "c", "d"], ["b", "c", "d"]]
    assert phone.recovered == [LOST]


def test_a_model_lost_twice_has_failed_and_the_others_go_on(visit: Make) -> None:
    _, seen = visit(b=[broken(True, LOST), broken(True, LOST)])
    assert isinstance(seen["b"], Failure)
    assert "lost twice while it ran" in seen["b"].message
    assert isinstance(seen["c"], Round)


def test_losses_between_models_are_nobodys_failure(visit: Make) -> None:
    _, seen = visit(b=[broken(False, LOST)] * 2 + [ConnectionLost("x")])
    assert all(isinstance(outcome, Round) for outcome in seen.values())


def test_a_phone_lost_again_and_again_is_given_up(visit: Make) -> None:
    with pytest.raises(BenchError, match=f"lost {MOST_LOSSES + 1} times in a row"):
        visit(b=[LOST] * (MOST_LOSSES + 1))


def test_losses_with_results_between_are_not_in_a_row(visit: Make) -> None:
    phone, seen = visit(**{name: [LOST] * MOST_LOSSES for name in "abcd"})
    assert len(phone.recovered) == 4 * MOST_LOSSES
    assert all(isinstance(outcome, Round) for outcome in seen.values())


def test_a_model_that_hung_is_not_run_again(visit: Make) -> None:
    phone, seen = visit(b=[broken(True, None)])
    assert seen["b"] == Failure("run", "broke off")
    assert phone.recovered == [None]
    assert phone.calls[1] == ["c", "d"]


def test_a_set_clock_costs_a_second_run_then_the_row(visit: Make) -> None:
    jumped = Failure("clock", "jumped")
    phone, seen = visit(b=[jumped], c=[jumped, jumped])
    assert isinstance(seen["b"], Round)
    assert seen["c"] == jumped
    assert phone.recovered == [None, None]


def test_models_that_do_not_fit_together_go_one_by_one(visit: Make) -> None:
    phone, seen = visit(a=[NoSpace("full")], c=[NoSpace("full")])
    assert phone.calls == [["a", "b", "c", "d"], ["a"], ["b"], ["c"], ["d"]]
    assert seen["c"] == Failure("push", "full")
    assert isinstance(seen["d"], Round)


def test_a_phone_that_does_not_come_back_ends_it(
    round_of: Make, model_of: Make
) -> None:
    phone = Phone({"b": [broken(True, LOST)]}, round_of(1.0))

    def gone(lost: ConnectionLost | None) -> None:
        raise BenchError("did not come back")

    seen = []
    with pytest.raises(BenchError, match="did not come back"):
        for model, _ in ResilientRunner(phone.run, gone, 9).visit(
            list(map(model_of, "abc"))
        ):
            seen.append(model.name)
    assert seen == ["a"]


def test_what_a_model_does_wrong_is_passed_on(visit: Make) -> None:
    wrong = Failure("run", "exit code 1")
    phone, seen = visit(b=[wrong])
    assert seen["b"] is wrong
    assert len(phone.calls) == 1


def test_frames_that_did_not_arrive_have_a_place() -> None:
    def frame(number: int) -> Frame:
        return Frame(number, 0, "", QuickState(), QuickState(), None)

    numbers = [f and f.number for f in in_order(map(frame, (1, 2, 4)), 6)]
    assert numbers == [None, 1, 2, None, 4, None]
    assert list(in_order([], 2)) == [None, None]
