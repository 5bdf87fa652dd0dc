package main

import (
	"runtime"
	"sync"
	"time"
)

const (
	hold      = 8     // who locks for the so-many-th time gives way while holding the lock
	readers   = 8     // under the RWMutex
	reads     = 64    // for each write
	groupSize = 10000 // of the WaitGroup, and of a context's children
)

// mutex: one goroutine locks and unlocks; ns for both.
func mutex(n int) float64 {
	var mu sync.Mutex
	start := time.Now()
	for range n {
		mu.Lock()
		mu.Unlock()
	}
	return perOp(start, n)
}

// mutex8: eight goroutines take turns at one mutex; ns per turn. Each gives way
// after its turn, and at times during it, so that the others must wait.
func mutex8(n int) float64 { return contended(8, n) }

// mutex1000: the same with a thousand.
func mutex1000(n int) float64 { return contended(1000, n) }

func contended(width, n int) float64 {
	each := max(1, n/width)
	var mu sync.Mutex
	counter := 0
	contend := func() {
		for range each {
			mu.Lock()
			counter++
			if counter%hold == 0 {
				runtime.Gosched()
			}
			mu.Unlock()
			runtime.Gosched()
		}
	}
	start := time.Now()
	var wg sync.WaitGroup
	for range width {
		spawnIn(&wg, contend)
	}
	wg.Wait()
	taken := perOp(start, width*each)
	check(counter, width*each)
	return taken
}

// rwMutex: eight goroutines read, giving way at times, and one writes; ns per
// read.
func rwMutex(n int) float64 {
	each := max(1, n/readers)
	writes := n / reads
	var rw sync.RWMutex
	value := 0
	read := func() {
		for i := range each {
			rw.RLock()
			seen := value
			if i%hold == 0 {
				runtime.Gosched()
				check(value, seen)
			}
			rw.RUnlock()
		}
	}
	write := func() {
		for range writes {
			rw.Lock()
			value++
			rw.Unlock()
			runtime.Gosched()
		}
	}
	start := time.Now()
	var wg sync.WaitGroup
	for range readers {
		spawnIn(&wg, read)
	}
	spawnIn(&wg, write)
	wg.Wait()
	taken := perOp(start, readers*each)
	check(value, writes)
	return taken
}

// spawnIn is WaitGroup.Go, which Go has since 1.25.
func spawnIn(wg *sync.WaitGroup, fn func()) {
	wg.Add(1)
	go func() {
		defer wg.Done()
		fn()
	}()
}

// waitGroup: ten thousand goroutines are started, call Done and are waited
// for; ns for all.
func waitGroup(n int) float64 {
	var wg sync.WaitGroup
	start := time.Now()
	for range n {
		wg.Add(groupSize)
		for range groupSize {
			go func() { wg.Done() }()
		}
		wg.Wait()
	}
	return perOp(start, n)
}
