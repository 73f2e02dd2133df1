"""First come, first served: whoever waits is not overtaken by whoever comes just then."""

import threading

import pytest

from pneumo.web.turns import Turns
from tests.web.test_metrics import until


def test_who_waits_goes_before_who_comes_at_that_moment():
    turns, order, waiting = Turns(1), [], []

    def go(name):
        with turns:
            order.append(name)

    turns.__enter__()
    for name in "abc":
        waiting.append(threading.Thread(target=go, args=name))
        waiting[-1].start()
        until(lambda: len(turns._waiting) == len(waiting))
    turns.__exit__()
    go("last")  # at once, before any of them can have woken up
    for thread in waiting:
        thread.join()
    assert order == ["a", "b", "c", "last"]


def test_so_many_are_inside_at_once_and_no_more():
    turns, inside, most, lock = Turns(3), 0, 0, threading.Lock()

    def go():
        nonlocal inside, most
        for _ in range(50):
            with turns:
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=go) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= 3
    assert (turns._free, len(turns._waiting)) == (3, 0)


def test_who_fails_inside_leaves():
    turns = Turns(1)
    for _ in range(2):
        with pytest.raises(KeyError), turns:
            raise KeyError
    assert turns._free == 1
