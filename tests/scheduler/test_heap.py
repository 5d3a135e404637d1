"""The heap gives the lowest rank first, however ranks come and whoever is taken out."""

from operator import attrgetter

from fakes import request
from hypothesis import given
from hypothesis import strategies as st

from offramp.scheduler.heap import RequestHeap
from offramp.scheduler.request import Request

RANKS = st.floats(0, 3) | st.integers(0, 3).map(float)
MOVES = st.lists(
    st.tuples(st.just("push"), st.lists(RANKS, min_size=1, max_size=5))
    | st.tuples(st.sampled_from(("pop", "below", "remove", "restore")), RANKS),
    max_size=60,
)


@given(MOVES)
def test_lowest_rank_first_equals_in_order(moves: list[tuple[str, float | list[float]]]) -> None:
    heap = RequestHeap(attrgetter("rank"))
    held: list[Request] = []
    for move, given_rank in moves:
        if isinstance(given_rank, list):
            fresh = [request() for _ in given_rank]
            for one, rank in zip(fresh, given_rank, strict=True):
                one.rank = rank
            heap.push(fresh)
            held = sorted([*held, *fresh], key=lambda one: one.rank)  # stable
        elif move == "remove" and held:
            heap.remove(held.pop(int(given_rank) % len(held)))
        elif move == "below":
            lower = held and held[0].rank < given_rank
            entry = next(heap.leaving(below=given_rank), None)
            assert (entry and entry[2]) is (held.pop(0) if lower else None)
        else:
            entry = next(heap.leaving(), None)
            assert (entry and entry[2]) is (held[0] if held else None)
            if entry is not None and move == "restore":
                heap.restore(entry)
            elif entry is not None:
                held.pop(0)
        first = heap.first()
        assert (first and first[2]) is (held[0] if held else None)
        assert len(heap) == len(held)
