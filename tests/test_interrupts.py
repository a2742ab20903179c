"""Ctrl-C waits for a safe point while a backend is working, and no longer."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from glaucoma.base import interrupts
from glaucoma.base.progress import Progress


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.install()
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_is_raised_where_it_arrives():
    with pytest.raises(KeyboardInterrupt):
        press()


def test_a_held_interrupt_waits_for_the_next_step(capsys: pytest.CaptureFixture):
    with interrupts.held(), Progress("work", 2) as progress:
        press()
        with pytest.raises(KeyboardInterrupt):
            progress.step()
    assert "stopping after this step" in capsys.readouterr().err


def test_the_end_of_the_held_work_is_a_step():
    with pytest.raises(KeyboardInterrupt), interrupts.held():
        press()
    interrupts.check()  # is raised once


def test_a_second_interrupt_stops_at_once():
    with interrupts.held():
        press()
        with pytest.raises(KeyboardInterrupt):
            press()


def test_while_only_waiting_an_interrupt_is_raised_where_it_arrives():
    with interrupts.held(), interrupts.released(), pytest.raises(KeyboardInterrupt):
        press()


def test_a_process_that_ignores_interrupts_goes_on_ignoring_them():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.install()
    press()
