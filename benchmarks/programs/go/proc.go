package main

import (
	"runtime"
	"sync"
	"time"
)

const batch = 1000

// yield: two goroutines give way to each other n times each; ns per call.
func yield(n int) float64 {
	var wg sync.WaitGroup
	start := time.Now()
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range n {
				runtime.Gosched()
			}
		}()
	}
	wg.Wait()
	return perOp(start, 2*n)
}

// spawn: goroutines that do nothing but finish, in batches that are waited
// for; ns per goroutine.
func spawn(n int) float64 {
	batches := max(1, n/batch)
	var wg sync.WaitGroup
	start := time.Now()
	for range batches {
		for range batch {
			wg.Add(1)
			go func() { wg.Done() }()
		}
		wg.Wait()
	}
	return perOp(start, batches*batch)
}
