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
