# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong: one exception per status of the C ABI, each with the peer it names."""
import enum
import re


class Status(enum.IntEnum):
    """The numbers of penstock.h."""
    OK = 0
    INVALID_ARGUMENT = 1
    NOT_FOUND = 2
    ALREADY_EXISTS = 3
    MISMATCH = 4
    TIMEOUT = 5
    PEER_LOST = 6
    CONNECTION_LOST = 7
    STALE = 8
    PROTOCOL = 9
    ACCESS = 10
    UNAUTHENTICATED = 11
    EXHAUSTED = 12
    UNSUPPORTED = 13
    CANCELLED = 14
    SYSTEM = 15
    NOT_FINITE = 16


class Error(Exception):
    """str() is one sentence: what was tried, with whom, why not, the way out.

    status: the number, a Status; peer: "server 1 (host:pid)", "" if none is to blame.
    """
    status = Status.SYSTEM

    def __init__(self, sentence, peer=""):
        super().__init__(sentence)
        self.peer = peer


class InvalidArgument(Error, ValueError):
    """The caller asked for something that cannot be."""
    status = Status.INVALID_ARGUMENT


class NotFound(Error, LookupError):
    """The named thing does not exist."""
    status = Status.NOT_FOUND


class AlreadyExists(Error):
    """The named thing exists already."""
    status = Status.ALREADY_EXISTS


class Mismatch(Error):
    """Workers disagree about a key."""
    status = Status.MISMATCH


class Timeout(Error, TimeoutError):
    """A deadline passed."""
    status = Status.TIMEOUT


class PeerLost(Error, ConnectionError):
    """A process of the job is gone or silent."""
    status = Status.PEER_LOST


class ConnectionLost(Error, ConnectionError):
    """One connection broke."""
    status = Status.CONNECTION_LOST


class Stale(Error):
    """An old round or region."""
    status = Status.STALE


class ProtocolError(Error):
    """Bytes from a peer that no correct peer sends."""
    status = Status.PROTOCOL


class AccessError(Error):
    """Outside a region."""
    status = Status.ACCESS


class Unauthenticated(Error, PermissionError):
    """Wrong or missing secret."""
    status = Status.UNAUTHENTICATED


class Exhausted(Error):
    """A queue, a limit or memory is full."""
    status = Status.EXHAUSTED


class Unsupported(Error):
    """Not available here."""
    status = Status.UNSUPPORTED


class Cancelled(Error):
    """Ended because the owner closed or left."""
    status = Status.CANCELLED


class SystemFailure(Error, OSError):
    """The operating system refused."""
    status = Status.SYSTEM


class NotFinite(Error, ArithmeticError):
    """A NaN or an infinity in a gradient ended the round."""
    status = Status.NOT_FINITE


_BY_STATUS = {kind.status: kind for kind in (
    InvalidArgument, NotFound, AlreadyExists, Mismatch, Timeout, PeerLost, ConnectionLost, Stale,
    ProtocolError, AccessError, Unauthenticated, Exhausted, Unsupported, Cancelled, SystemFailure,
    NotFinite)}


# How sentences name a process of the job, when the C ABI does not name it apart from them.
_PROCESS = re.compile(r"(?:(?:worker|server) \d+|scheduler) \([^()]+:\d+\)")


def from_status(status, sentence, peer):
    """The exception for a status of the C ABI; called by _penstock."""
    if not peer:
        named = _PROCESS.search(sentence)
        peer = named.group(0) if named else ""
    return _BY_STATUS.get(status, Error)(sentence, peer)
