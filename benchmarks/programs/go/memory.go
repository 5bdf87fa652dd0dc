package main

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
)

// memory: n goroutines wait in a receive; bytes of resident memory for each.
func memory(n int) float64 {
	ch := make(chan int)
	var parked atomic.Int64
	before := resident()
	for range n {
		go func() {
			parked.Add(1)
			<-ch
		}()
	}
	for parked.Load() < int64(n) {
		runtime.Gosched()
	}
	runtime.Gosched()
	return float64(resident()-before) / float64(n)
}

// resident is the memory the process has in RAM: now where the system tells
// (Linux), at its peak elsewhere.
func resident() int {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		usage := resources()
		return int(usage.Maxrss)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		fail(err.Error())
	}
	return pages * os.Getpagesize()
}
