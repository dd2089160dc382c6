"""The hash chain of a session's frames: removing, changing or reordering stored frames shows.

    hash_0 = SHA-256(session id in its canonical text form)
    hash_n = SHA-256(hash_{n-1} || canonical bytes of frame n)      n = 1, 2, ... in the order of commits

A chain alone does not show that its end was cut off; an ended session therefore keeps the number of its frames and the
last hash in its own row.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


def genesis(session_id: str) -> bytes:
    """hash_0, 32 bytes."""
    return hashlib.sha256(session_id.encode()).digest()


def link(previous: bytes, content: bytes) -> bytes:
    """hash_n from hash_{n-1} and the canonical bytes of frame n, 32 bytes."""
    return hashlib.sha256(previous + content).digest()


@dataclass(frozen=True, slots=True)
class ChainedFrame:
    """A stored frame for verification; `content` is None when its sealed bytes do not open."""

    sequence: int
    content: bytes | None
    chain_hash: bytes


@dataclass(frozen=True, slots=True)
class ChainReport:
    """Args: first_broken: sequence of the first frame that does not continue the chain; None = the chain holds."""

    frames: int
    head: bytes
    first_broken: int | None

    @property
    def holds(self) -> bool:
        return self.first_broken is None


def verify(session_id: str, frames: Iterable[ChainedFrame]) -> ChainReport:
    """Check frames in the order of their sequence (1, 2, ...); a gap counts as broken at the missing sequence."""
    report = ChainReport(frames=0, head=genesis(session_id), first_broken=None)
    for frame in frames:
        report = extend(report, frame)
        if not report.holds:
            return report
    return report


def extend(report: ChainReport, frame: ChainedFrame) -> ChainReport:
    """The report after one more frame; a broken report stays as it is."""
    if not report.holds:
        return report
    expected_sequence = report.frames + 1
    if frame.sequence != expected_sequence:
        return ChainReport(report.frames, report.head, first_broken=expected_sequence)
    if frame.content is None or link(report.head, frame.content) != frame.chain_hash:
        return ChainReport(report.frames, report.head, first_broken=frame.sequence)
    return ChainReport(expected_sequence, frame.chain_hash, first_broken=None)
