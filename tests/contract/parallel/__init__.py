"""Goroutines on several OS threads, preemption, the watchdog: what the contract says of them."""
