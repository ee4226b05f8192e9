"""Visitors of the page: each browser tab has its own photos, and the memory of all is bounded."""

import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from attnseg.attn2mask.generate import Generated
from attnseg.errors import UserError
from attnseg.text2mask.kept import Kept

SESSIONS = 64
PHOTOS = 50  # of a session
IDLE = 3600  # seconds after which a session is forgotten


@dataclass
class Photo:
    """A photo of a visitor's, what was asked about it, and the last answer.

    `image`: [h, w, 3] uint8, of at most 2 million pixels; `size`: (height, width) of the photo itself.
    `asked`: what `kept` was made with. `changes`: what sliders say, keys of RefinementJob's.
    """

    name: str
    data: bytes
    image: np.ndarray
    size: tuple[int, ...]
    classes: list[str] = field(default_factory=list)
    asked: dict = field(default_factory=dict)
    kept: Kept | None = None
    sliders: dict = field(default_factory=dict)
    scores: np.ndarray | None = None  # [K + 1, h, w] float32

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def bytes(self) -> int:
        more = (self.kept.bytes if self.kept else 0) + (
            0 if self.scores is None else self.scores.nbytes
        )
        return len(self.data) + self.image.nbytes + more


@dataclass
class Session:
    """One tab's photos by number, and the picture that it had generated last."""

    photos: dict[int, Photo] = field(default_factory=dict)
    drawn: Generated | None = None
    count: int = 0
    seen: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bytes(self) -> int:
        return sum(photo.bytes for photo in list(self.photos.values()))

    def add(self, photo: Photo) -> int:
        """The photo's number.

        Raises:
            UserError: if there are too many.
        """
        if len(self.photos) >= PHOTOS:
            raise UserError(f"{PHOTOS} photos are here already; remove one first")
        self.count += 1
        self.photos[self.count] = photo
        return self.count

    def photo(self, number: int) -> Photo:
        try:
            return self.photos[number]
        except KeyError:
            raise UserError("this photo is no longer here; add it again") from None


class Store:
    """Sessions by ids that cannot be guessed. `room`: bytes for all."""

    def __init__(self, room: int = 2**31):
        self.room = room
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def new(self) -> str:
        """The id of a new session; the one that was not seen for longest goes if there are too many."""
        with self._lock:
            self._forget(time.monotonic())
            while len(self._sessions) >= SESSIONS:
                self._drop_oldest()
            name = secrets.token_urlsafe(24)
            self._sessions[name] = Session(seen=time.monotonic())
            return name

    def get(self, name: str | None) -> Session | None:
        """A session by its id, if it is still there."""
        with self._lock:
            self._forget(time.monotonic())
            session = self._sessions.get(name or "")
            if session is not None:
                session.seen = time.monotonic()
            return session

    def make_room(self, mine: Session, more: int) -> None:
        """Make room for so many bytes by forgetting others' oldest sessions.

        Raises:
            UserError: if one's own photos leave too little.
        """
        with self._lock:
            while sum(session.bytes for session in self._sessions.values()) + more > self.room:
                if all(session is mine for session in self._sessions.values()):
                    raise UserError("no memory is left for more photos here; remove some first")
                self._drop_oldest(mine)

    def _forget(self, now: float) -> None:
        for name in [n for n, s in self._sessions.items() if now - s.seen > IDLE]:
            del self._sessions[name]

    def _drop_oldest(self, but: Session | None = None) -> None:
        others = {name: s for name, s in self._sessions.items() if s is not but}
        del self._sessions[min(others, key=lambda name: others[name].seen)]
