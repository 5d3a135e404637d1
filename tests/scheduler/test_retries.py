"""A failed batch runs again in halves, until whoever caused it is alone."""

import fakes

from offramp.scheduler.request import Departure


def test_one_culprit_is_found_by_halving() -> None:
    core = fakes.scheduler(max_batch_rows=32)
    requests = [fakes.request(confidences=(0.9,) * 3) for _ in range(31)]
    requests.append(poison := fakes.request(confidences=(-1.0,) * 3))
    for one in requests:
        core.submit(one, 0.0)
    backend, sizes, failed = fakes.FakeBackend(), list[int](), list[Departure]()
    while not core.idle:
        batch = fakes.cut(core, now := float(len(sizes)))
        sizes.append(len(batch.requests))
        try:
            readings = backend.run(batch)
        except RuntimeError as error:
            failed += core.fail(batch, error)
        else:
            core.complete(batch, readings, now + 1)
    assert sizes == [32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1]
    assert [departure.request for departure in failed] == [poison]


def test_who_is_left_of_a_batch_whose_culprit_gave_up_is_run_again() -> None:
    core = fakes.scheduler()
    core.submit(given_up := fakes.request(), 0.0)
    core.submit(stays := fakes.request(), 0.0)
    batch = fakes.cut(core, 0.0)
    core.cancel(given_up)
    assert core.fail(batch, RuntimeError("poison")) == []
    assert fakes.cut(core, 1.0).requests == (stays,)
    assert core.slots.held == 1
