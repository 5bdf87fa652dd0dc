package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
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

// mapMemory: a map over n inputs; bytes that resident memory has grown by at
// its peak.
func mapMemory(n int) float64 {
	before := resident()
	mapAll(n)
	return float64(peak() - before)
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

// peak is the most memory the process has had in RAM so far. On Linux Maxrss
// would not do: it includes what the runner had before the exec.
func peak() int {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		usage := resources()
		return int(usage.Maxrss)
	}
	_, line, _ := strings.Cut(string(text), "VmHWM:")
	kilobytes, err := strconv.Atoi(strings.Fields(line)[0])
	if err != nil {
		fail(err.Error())
	}
	return kilobytes * 1024
}
