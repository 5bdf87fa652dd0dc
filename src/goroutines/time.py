"""Timers, tickers and the clock that they go by (what Go's package time has of them).

Times are seconds, as floats, on a monotonic clock of its own: `now()`. A timer's channel
follows Go's rules since 1.23: it has no buffer, after `stop` or `reset` nothing stale is
received, and a timer that nobody waits for any more costs nothing, stopped or not.
"""

from __future__ import annotations

from goroutines._runtime import Ticker, Timer, after, after_func, now, sleep, tick

__all__ = ["Ticker", "Timer", "after", "after_func", "now", "sleep", "tick"]
