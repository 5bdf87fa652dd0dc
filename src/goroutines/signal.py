"""Signals as values in channels (Go's os/signal).

`notify` installs a handler with the standard library's `signal.signal`, and `stop` brings
the one before it back when nobody listens to that signal any more. Only the main thread can
do that; the handler itself never waits.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from goroutines import context
from goroutines._runtime import Chan

__all__ = ["SignalReceived", "notify", "notify_context", "stop"]

BUFFER = 16  # signals that a channel keeps for a slow receiver; more are dropped

# Sent by the kernel for what this very thread just did, or not to be caught.
_NOT_OURS = {
    getattr(signal, name, None)
    for name in ("SIGKILL", "SIGSTOP", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP")
}


class SignalReceived(Exception):
    """Why a context of `notify_context` was cancelled; `.signal` is the signal."""

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(f"{received.name} received")
        self.signal = received


_Sink = Callable[[signal.Signals], object]

# Who wants a signal. The tuples are replaced, never changed: a handler may interrupt.
_sinks: dict[signal.Signals, tuple[_Sink, ...]] = {}
_before: dict[signal.Signals, Any] = {}
_channels: dict[Chan[signal.Signals], tuple[tuple[signal.Signals, ...], _Sink]] = {}


def _handle(signum: int, frame: FrameType | None) -> None:
    received = signal.Signals(signum)
    sinks = _sinks.get(received, ())
    for sink in sinks:
        sink(received)
    if not sinks:  # stop() was called in another thread, which could not do this
        _restore(received)
        os.kill(os.getpid(), signum)


def _restore(sig: signal.Signals) -> None:
    """Bring back the handler that was there before ours, unless it was replaced since."""
    before = _before.pop(sig, None)
    if signal.getsignal(sig) is _handle:
        signal.signal(sig, signal.SIG_DFL if before is None else before)


def _signals_arg(who: str, signals: tuple[int, ...]) -> tuple[signal.Signals, ...]:
    if not signals:
        every = (signal.Signals(s) for s in signal.valid_signals() if s in set(signal.Signals))
        return tuple(s for s in every if s not in _NOT_OURS and s is not signal.SIGCHLD)
    wanted: list[signal.Signals] = []
    for given in signals:
        if not isinstance(given, int):
            raise TypeError(f"{who}: {given!r} is no signal; use signal.SIGTERM or the like")
        try:
            sig = signal.Signals(given)
        except ValueError:
            raise ValueError(f"{who}: there is no signal {given!r}") from None
        if sig in _NOT_OURS:
            raise ValueError(f"{who}: {sig.name} cannot be received as a value")
        wanted.append(sig)
    return tuple(dict.fromkeys(wanted))


def _listen(who: str, signals: tuple[signal.Signals, ...], sink: _Sink) -> None:
    listening: list[signal.Signals] = []
    try:
        for sig in signals:
            if signal.getsignal(sig) is not _handle:
                before = signal.signal(sig, _handle)
                _before[sig] = before
            _sinks[sig] = (*_sinks.get(sig, ()), sink)
            listening.append(sig)
    except ValueError as e:
        _unlisten(tuple(listening), sink)
        raise ValueError(f"{who}: signals can only be asked for in the main thread") from e


def _unlisten(signals: tuple[signal.Signals, ...], sink: _Sink) -> None:
    for sig in signals:
        left = tuple(s for s in _sinks.get(sig, ()) if s is not sink)
        _sinks[sig] = left
        if not left:
            try:
                _restore(sig)
            except ValueError:  # not the main thread: the next signal does it
                _before.setdefault(sig, None)


def notify(*signals: int) -> Chan[signal.Signals]:
    """Return a channel that gets each of these signals as it arrives.

    No signals at all means every one that can be caught, but SIGCHLD. The channel keeps 16;
    when it is full, further ones are dropped, as in Go. While a signal goes to a channel,
    its own action (SIGINT's KeyboardInterrupt, say) does not happen.

    Raises ValueError for a signal that cannot be caught and outside of the main thread,
    TypeError for what is no signal.
    """
    wanted = _signals_arg("notify", signals)
    ch: Chan[signal.Signals] = Chan(BUFFER)

    def sink(received: signal.Signals) -> None:
        if not ch.closed:
            ch.try_send(received)

    _listen("notify", wanted, sink)
    _channels[ch] = (wanted, sink)
    return ch


def stop(ch: Chan[signal.Signals]) -> None:
    """Send no more signals to `ch`, a channel of `notify`; the last one restores the action.

    The channel is not closed, and a second stop does nothing, as in Go. Raises TypeError
    for what is no channel.
    """
    if not isinstance(ch, Chan):
        raise TypeError(f"stop: expected a channel that notify() returned, not {ch!r}")
    wanted, sink = _channels.pop(ch, ((), None))
    if sink is not None:
        _unlisten(wanted, sink)


class _Stop:
    """Takes a context's sink away when the context is done, by whatever way."""

    def __init__(self, signals: tuple[signal.Signals, ...], sink: _Sink) -> None:
        self._listens = (signals, sink)

    def _cancel(self, _: object, /) -> None:
        _unlisten(*self._listens)


def notify_context(parent: context.Context, *signals: int) -> context.CancelContext:
    """Return a child of `parent` that is cancelled by the first of these signals.

    Its cause is a SignalReceived then. The signals get their own action back when the
    context is done, so a second Ctrl-C interrupts as usual. Errors as for `notify`.
    """
    wanted = _signals_arg("notify_context", signals)
    ctx = context.with_cancel(parent)

    def sink(received: signal.Signals) -> None:
        ctx.cancel(SignalReceived(received))

    try:
        _listen("notify_context", wanted, sink)
    except ValueError:
        ctx.cancel()
        raise
    ctx._add(_Stop(wanted, sink))
    return ctx
