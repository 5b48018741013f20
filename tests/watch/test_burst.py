from __future__ import annotations

from hotreload.watch.burst import Burst


def test_it_is_due_a_quiet_window_after_the_last_save() -> None:
    burst = Burst(0.01)
    assert burst.due is None
    burst.add("a.c", 1.0)
    burst.add("b.c", 1.005)

    assert burst.due == 1.015
    assert burst.take() == {"a.c", "b.c"}
    assert burst.due is None


def test_a_created_file_waits_longer_until_it_is_closed() -> None:
    burst = Burst(0.01)
    burst.add("a.c", 1.0, whole=False)
    assert burst.due == 1.05
    burst.add("a.c", 1.001)

    assert burst.due == 1.011


def test_the_window_grows_with_each_discarded_build_up_to_a_limit_and_shrinks_at_once() -> None:
    burst = Burst(0.01)
    windows = []
    for _ in range(8):
        burst.back_off()
        burst.add("a.c", 0.0)
        windows.append(burst.due)
    burst.relax()

    assert windows == [0.02, 0.04, 0.08, 0.16, 0.32, 0.32, 0.32, 0.32]
    assert burst.due == 0.01
