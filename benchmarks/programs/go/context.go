package main

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// contexts: a context gets ten thousand children and is cancelled; ns for all.
func contexts(n int) float64 {
	children := make([]context.Context, groupSize)
	cancels := make([]context.CancelFunc, groupSize)
	start := time.Now()
	for range n {
		parent, cancel := context.WithCancel(context.Background())
		for i := range children {
			children[i], cancels[i] = context.WithCancel(parent)
		}
		cancel()
	}
	taken := perOp(start, n)
	over := 0
	for _, child := range children {
		if child.Err() != nil {
			over++
		}
	}
	check(over, groupSize)
	return taken
}

// cancel: ten thousand goroutines that each wait in a context of their own
// are cancelled; ns from the call until all have ended.
func cancel(n int) float64 {
	var taken time.Duration
	for range n {
		var wg sync.WaitGroup
		var parked atomic.Int64
		parent, cancel := context.WithCancel(context.Background())
		for range groupSize {
			spawnIn(&wg, func() {
				ctx, done := context.WithCancel(parent)
				defer done()
				parked.Add(1)
				<-ctx.Done()
			})
		}
		for parked.Load() < groupSize {
			runtime.Gosched()
		}
		runtime.Gosched()
		start := time.Now()
		cancel()
		wg.Wait()
		taken += time.Since(start)
	}
	return float64(taken.Nanoseconds()) / float64(n)
}
