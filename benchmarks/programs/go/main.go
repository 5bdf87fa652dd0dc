// Command bench is Go's side of the comparison: it runs one benchmark and
// prints its figure as one JSON line, as the Python programs do.
//
// Usage: bench NAME N
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"
)

// A benchmark does n operations and returns its figure in its unit.
type benchmark struct {
	unit string
	cold bool // a warm-up would falsify it
	run  func(n int) float64
}

var benchmarks = map[string]benchmark{
	"yield":      {"ns", false, yield},
	"unbuffered": {"ns", false, unbuffered},
	"ping-pong":  {"ns", false, pingPong},
	"buffered":   {"ns", false, buffered},
	"spawn":      {"ns", false, spawn},
	"select-2":   {"ns", false, select2},
	"select-8":   {"ns", false, select8},
	"ring":       {"ns", false, ring},
	"sieve":      {"ns", false, sieve},
	"sleepers":   {"s", true, sleepers},
	"memory":     {"bytes", true, memory},
	"mutex":      {"ns", false, mutex},
	"mutex-8":    {"ns", false, mutex8},
	"mutex-1000": {"ns", false, mutex1000},
	"rwmutex":    {"ns", false, rwMutex},
	"waitgroup":  {"ns", false, waitGroup},
	"timers":     {"ns", false, timers},
	"after-func": {"ns", false, afterFuncs},
	"context":    {"ns", false, contexts},
	"cancel":     {"ns", false, cancel},
	"pool":       {"ns", false, submitAll},
	"map":        {"ns", false, mapAll},
	"map-memory": {"bytes", true, mapMemory},
	"echo":       {"", true, echo},
	"pipeline":   {"ns", false, pipeline},
	// On how many threads the two are is the scheduler's choice.
	"unbuffered-2": {"ns", false, unbuffered},

	// benchmarks/memory.py's
	"make-16":      {"ns", false, makes(16)},
	"make-64":      {"ns", false, makes(64)},
	"make-256":     {"ns", false, makes(256)},
	"make-1024":    {"ns", false, makes(1024)},
	"make-4096":    {"ns", false, makes(4096)},
	"make-16384":   {"ns", false, makes(16384)},
	"make-65536":   {"ns", false, makes(65536)},
	"make-262144":  {"ns", false, makes(262144)},
	"make-1048576": {"ns", false, makes(1048576)},
	"slicing":      {"ns", false, slicing},
	"append":       {"ns", false, appends},
	"copy-4096":    {"ns", false, copies(4096)},
	"copy-1048576": {"ns", false, copies(1048576)},
	"reuse":        {"ns", false, reuse},
}

type result struct {
	Benchmark string  `json:"benchmark"`
	N         int     `json:"n"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
}

func main() {
	if len(os.Args) != 3 {
		fail("usage: bench NAME N")
	}
	name := os.Args[1]
	bench, known := benchmarks[name]
	if !known {
		fail("bench: no benchmark named " + name)
	}
	n, err := strconv.Atoi(os.Args[2])
	if err != nil || n < 1 {
		fail("bench: N must be a positive integer")
	}
	if !bench.cold {
		bench.run(max(1, n/10))
	}
	line, err := json.Marshal(result{name, n, bench.run(n), bench.unit})
	if err != nil {
		fail(err.Error())
	}
	fmt.Println(string(line))
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(2)
}

// check ends the program if it did not do its work: a wrong answer is worth no
// figure.
func check(found, expected int) {
	if found != expected {
		fail(fmt.Sprintf("the answer is %d, not %d", found, expected))
	}
}

// perOp divides the time since start by the number of operations done.
func perOp(start time.Time, operations int) float64 {
	return float64(time.Since(start).Nanoseconds()) / float64(operations)
}
