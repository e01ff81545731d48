"""Which runs are suspects of a crash, and that the guilty are found and nobody else is."""

from math import ceil, log2

from hypothesis import given
from hypothesis import strategies as st

from tests.scheduling.crashing import NEVER, SimulatedRun, SimulatedServer
from workflow_server.app.scheduling.evidence import Turn, judge
from workflow_server.schemas.records import Phase, Suspect

MOST_STARTS = 600
STEP = 30.0  # seconds


def suspect(
    run_id: str,
    *,
    present: bool = False,
    attempted: bool = False,
    resumes: int = 0,
    strikes: int = 0,
) -> Suspect:
    """Return a suspect."""
    return Suspect(
        run_id=run_id,
        accepted=0,
        phase=Phase.QUEUED,
        was_present=present,
        attempted=attempted,
        resumes=resumes,
        strikes=strikes,
    )


def test_of_many_half_come_back_first() -> None:
    verdict = judge([suspect(r, present=True) for r in "abcde"], others=False, max_resumes=5)
    assert verdict.turns == (Turn(("a", "b", "c")), Turn(("d", "e")))
    assert verdict.suspects == tuple(suspect(r, resumes=1) for r in "abcde")
    assert verdict.probation == 1


def test_those_that_had_just_come_back_are_halved_first() -> None:
    found = [
        suspect("well", present=True, resumes=1),
        suspect("a", present=True, attempted=True, resumes=1),
        suspect("b", present=True, attempted=True, resumes=1),
        suspect("waits", resumes=1),
    ]
    verdict = judge(found, others=False, max_resumes=5)
    assert verdict.turns == (Turn(("a",)), Turn(("b",)), Turn(("well", "waits")))
    assert verdict.probation == 2


def test_one_that_was_alone_at_work_comes_back_first_the_first_time() -> None:
    verdict = judge([suspect("a", present=True)], others=True, max_resumes=5)
    assert verdict.turns == (Turn(("a",), alone=True),)
    assert [s.strikes for s in verdict.suspects] == [1]


def test_one_that_came_back_beside_others_comes_back_alone() -> None:
    found = [suspect("a", present=True), suspect("b", present=True, attempted=True, strikes=1)]
    verdict = judge(found, others=True, max_resumes=5)
    assert verdict.turns == (Turn(("b",), alone=True), Turn(("a",)))
    assert [s.strikes for s in verdict.suspects] == [0, 1]


def test_one_that_was_at_work_alone_gets_a_strike_and_comes_back_after_the_others() -> None:
    found = [suspect("a", resumes=1), suspect("b", present=True, attempted=True, resumes=1)]
    verdict = judge(found, others=False, max_resumes=5)
    assert verdict.turns == (Turn(("a",)), Turn(("b",), not_before=2))
    assert verdict.suspects == (suspect("a", resumes=1), suspect("b", resumes=2, strikes=1))


def test_one_with_too_many_strikes_is_given_up_when_the_others_are_well() -> None:
    found = [suspect("a", resumes=1), suspect("b", present=True, resumes=1, strikes=2)]
    verdict = judge(found, others=False, max_resumes=2)
    assert verdict.turns == (Turn(("a",)), Turn(("b",), given_up=True, not_before=2))


def test_one_that_has_no_others_beside_it_comes_back_at_once_so_often_and_no_more() -> None:
    strikes = [
        judge([suspect("a", present=True, strikes=earlier)], others=False, max_resumes=2).turns
        for earlier in range(3)
    ]
    alone = (Turn(("a",), alone=True),)
    assert strikes == [alone, alone, (Turn(("a",), given_up=True),)]


def test_a_crash_with_nobody_present_clears_all() -> None:
    verdict = judge([suspect("a", resumes=4, strikes=2)], others=False, max_resumes=1)
    assert (verdict.suspects, verdict.turns) == ((suspect("a"),), ())


def test_a_probation_is_no_longer_than_a_minute() -> None:
    found = [suspect("a", present=True, resumes=10_000), suspect("b", present=True)]
    assert judge(found, others=False, max_resumes=5).probation == 60


def run_until_quiet(server: SimulatedServer, kills: list[float] | None = None) -> None:
    """Live on until nothing ends the process any more; first of all it is killed so often."""
    pending = list(kills or ())
    while server.live(pending.pop(0) if pending else NEVER):
        assert server.starts < MOST_STARTS
        server.start_again()


def bound(runs: int, poison: dict[int, float], max_resumes: int) -> int:
    """Return how many starts it takes at most until all poison runs are given up."""
    latest = max(poison.values(), default=0.0)
    doublings = 2 * ceil(log2(latest + 1))
    return 1 + len(poison) * (ceil(log2(runs)) + 2 * max_resumes + 4 + doublings)


@st.composite
def poisoned(draw: st.DrawFn) -> tuple[int, dict[int, float]]:
    """Draw a number of runs, and which of them end the process after how many seconds."""
    runs = draw(st.integers(1, 40))
    delays = st.sampled_from([0.0, 0.5, 3.0, 10.0, 29.0])
    return runs, draw(st.dictionaries(st.integers(0, runs - 1), delays, max_size=3))


@given(poisoned(), st.integers(0, 5))
def test_poison_runs_are_given_up_within_a_bound_and_all_others_complete(
    runs_and_poison: tuple[int, dict[int, float]], max_resumes: int
) -> None:
    count, poison = runs_and_poison
    runs = [
        SimulatedRun(str(number), step=STEP, kills_after=poison.get(number, NEVER))
        for number in range(count)
    ]
    server = SimulatedServer(runs, max_resumes)
    run_until_quiet(server)
    failed = {number for number, run in enumerate(runs) if run.status == "failed"}
    assert failed == set(poison)
    assert all(run.status != "running" for run in runs)
    assert server.starts <= bound(count, poison, max_resumes)


@given(st.integers(2, 30), st.integers(0, 5), st.floats(0.01, 29.0), st.integers(1, 200))
def test_a_process_that_is_killed_again_and_again_fails_nobody(
    count: int, max_resumes: int, period: float, times: int
) -> None:
    runs = [SimulatedRun(str(number), step=STEP) for number in range(count)]
    run_until_quiet(SimulatedServer(runs, max_resumes), [period] * times)
    assert [run.status for run in runs] == ["completed"] * count


@given(st.integers(2, 30), st.lists(st.floats(0.01, 29.0), max_size=100))
def test_a_process_that_is_killed_at_any_times_fails_nobody(count: int, kills: list[float]) -> None:
    runs = [SimulatedRun(str(number), step=STEP) for number in range(count)]
    run_until_quiet(SimulatedServer(runs, max_resumes=5), kills)
    assert [run.status for run in runs] == ["completed"] * count


@given(poisoned(), st.lists(st.floats(0.01, 29.0), max_size=60))
def test_among_poison_runs_and_kills_the_others_complete(
    runs_and_poison: tuple[int, dict[int, float]], kills: list[float]
) -> None:
    count, poison = runs_and_poison
    runs = [
        SimulatedRun(str(number), step=STEP, kills_after=poison.get(number, NEVER))
        for number in range(count + 2)
    ]
    run_until_quiet(SimulatedServer(runs, max_resumes=5), kills)
    failed = {number for number, run in enumerate(runs) if run.status == "failed"}
    assert failed == set(poison)


def test_where_others_are_at_work_beside_it_the_one_that_had_just_come_back_gets_the_strike() -> (
    None
):
    found = [
        suspect("beside", present=True),
        suspect("back", present=True, attempted=True, resumes=1),
    ]
    verdict = judge(found, others=True, max_resumes=1, is_shared=True)
    assert verdict.suspects == (suspect("beside", resumes=1), suspect("back", resumes=2, strikes=1))
    assert verdict.turns == (Turn(("beside",)), Turn(("back",), not_before=2))


def test_where_servers_share_a_store_no_run_comes_back_alone() -> None:
    one = judge([suspect("a", present=True)], others=True, max_resumes=1, is_shared=True)
    assert one.turns == (Turn(("a",), not_before=1),)
    given_up = suspect("a", present=True, attempted=True, resumes=1, strikes=1)
    two = judge([given_up], others=True, max_resumes=1, is_shared=True)
    assert two.turns == (Turn(("a",), given_up=True, not_before=2),)
