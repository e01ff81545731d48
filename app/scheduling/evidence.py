"""Evidence: which runs may have ended the process, and in which order they come back.

Suspects of a crash are the runs that were at work, or being restored, when the process ended. Of
many, half come back first, and the other half when the first is well; so each crash halves them.
A run that was the only one present gets a strike. If it had just come back then, it next comes
back after all others, when the process has lasted for a probation without it: what ends the
process anyhow is not blamed on it. Where the process ends as soon as that run is back beside the
others, it comes back alone the next time. It is given up after more strikes than `max_resumes`,
when the others are well once more.

A crash without the run takes no strike away, for two runs that each end the process would clear
each other; but it adds none. A crash with nobody present clears all.

The probation doubles with the crashes in a row. So a run that ends the process only after a while
is found, too, and a process that is killed again and again does not come to the next strike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workflow_server.schemas.records import Suspect

PROBATION = 1.0  # seconds, after the first crash
LONGEST_PROBATION = 60.0  # seconds
DOUBLINGS = 10  # that are certainly enough for the longest


@dataclass(frozen=True, slots=True)
class Turn:
    """Runs that come back together, after those of the turn before are well.

    While one is there `alone`, no other run is at work. A turn begins `not_before` this many
    seconds after the first one. Runs that are `given_up` do not come back: they have failed.
    """

    run_ids: tuple[str, ...]
    alone: bool = False
    given_up: bool = False
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The suspects as they are to be written, and their turns.

    A turn is over when its runs are well, and after `probation` seconds at the latest.
    """

    suspects: tuple[Suspect, ...] = ()
    turns: tuple[Turn, ...] = ()
    probation: float = 0.0


def judge(
    found: Sequence[Suspect], *, others: bool, max_resumes: int, is_shared: bool = False
) -> Verdict:
    """Return what follows from how the last process ended.

    `found` are all suspects, in the order of acceptance, and `others` is whether the store has
    other runs that are about to be at work. With `is_shared` the others go on at other servers
    meanwhile, and no run is alone anywhere: a strike is for the only one that had just come back.
    """
    present = [suspect for suspect in found if suspect.was_present]
    if not present:
        return Verdict(tuple(_cleared(suspect) for suspect in found))
    prime = {s.run_id for s in present if s.attempted} or {s.run_id for s in present}
    is_only = len(prime) == 1 and (is_shared or len(present) == 1)
    noted = [_noted(s, is_only=is_only and s.run_id in prime) for s in found]
    has_peers = others or len(found) > 1
    had_come_back = any(suspect.attempted for suspect in present)
    is_tried = len(present) > 1 or not had_come_back or not has_peers
    is_alone = len(prime) == 1 and is_tried and not is_shared
    probation = probation_after(max(suspect.resumes for suspect in noted))
    # The first strike alone proves nothing where there are others: they may all get one.
    most = max(max_resumes, 1) if has_peers else max_resumes
    guilty = [s.run_id for s in noted if s.strikes > most]
    going_on = [s for s in noted if s.strikes <= most]
    alone = [s.run_id for s in going_on if is_alone and s.run_id in prime]
    struck = [s.run_id for s in going_on if s.strikes and s.run_id not in alone]
    free = [s.run_id for s in going_on if not s.strikes and s.run_id not in alone]
    first = [run_id for run_id in free if run_id in prime]
    half = (len(first) + 1) // 2
    later = [run_id for run_id in free if run_id not in prime]
    peace = probation if has_peers else 0.0  # that lasts without those with a strike
    turns = [
        *(Turn((run_id,), alone=True) for run_id in alone),
        *(Turn(tuple(group)) for group in (first[:half], first[half:], later) if group),
        *(Turn((run_id,), given_up=True, not_before=peace) for run_id in guilty),
        *(Turn((run_id,), not_before=peace) for run_id in struck),
    ]
    return Verdict(tuple(noted), tuple(turns), probation)


def _noted(suspect: Suspect, *, is_only: bool) -> Suspect:
    """Return a suspect with what the crash adds; nobody is present any more."""
    return replace(
        suspect,
        was_present=False,
        attempted=False,
        resumes=suspect.resumes + suspect.was_present,
        strikes=suspect.strikes + (suspect.was_present and is_only),
    )


def _cleared(suspect: Suspect) -> Suspect:
    return replace(suspect, attempted=False, resumes=0, strikes=0)


def probation_after(crashes: int) -> float:
    """Return the seconds in which suspects are watched, after so many crashes in a row."""
    return min(PROBATION * 2.0 ** min(crashes - 1, DOUBLINGS), LONGEST_PROBATION)
