"""Slots: the places in the hidden-state store, each held by one admitted request."""


class SlotTable:
    """Hands out slot numbers from `first`; the last one given back is the first taken again."""

    def __init__(self, capacity: int, first: int = 0) -> None:
        self.capacity = capacity
        self._first = first
        self._free = list(reversed(range(first, first + capacity)))
        self._held = bytearray(capacity)

    @property
    def free(self) -> int:
        """Slots that nobody holds."""
        return len(self._free)

    @property
    def held(self) -> int:
        """Slots in use."""
        return self.capacity - len(self._free)

    def take(self) -> int:
        """Hand out a free slot."""
        slot = self._free.pop()
        self._held[slot - self._first] = 1
        return slot

    def release(self, slot: int) -> None:
        """Take a slot back."""
        assert self._held[slot - self._first]
        self._held[slot - self._first] = 0
        self._free.append(slot)
