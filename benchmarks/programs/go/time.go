package main

import (
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
)

const (
	naps       = 4
	longestNap = 2 * time.Second
	far        = time.Hour // until the timers would fire that are stopped
)

// sleepers: n goroutines sleep for random times, several times each; CPU
// seconds of the whole process.
func sleepers(n int) float64 {
	var wg sync.WaitGroup
	for range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range naps {
				time.Sleep(rand.N(longestNap))
			}
		}()
	}
	wg.Wait()
	usage := resources()
	return seconds(usage.Utime) + seconds(usage.Stime)
}

// timers: n timers are made, then all are stopped; ns for each.
func timers(n int) float64 {
	start := time.Now()
	all := make([]*time.Timer, n)
	for i := range all {
		all[i] = time.NewTimer(far)
	}
	for _, timer := range all {
		timer.Stop()
	}
	return perOp(start, n)
}

// afterFuncs: the same with timers that would call a function.
func afterFuncs(n int) float64 {
	start := time.Now()
	all := make([]*time.Timer, n)
	for i := range all {
		all[i] = time.AfterFunc(far, func() {})
	}
	for _, timer := range all {
		timer.Stop()
	}
	return perOp(start, n)
}

func resources() syscall.Rusage {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail(err.Error())
	}
	return usage
}

func seconds(t syscall.Timeval) float64 {
	return time.Duration(t.Nano()).Seconds()
}
