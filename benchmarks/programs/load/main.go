// Command load drives a TCP echo server, whoever wrote it, and prints what it
// saw as one JSON line.
//
// It opens CONNECTIONS connections to 127.0.0.1:PORT.  Each carries one message
// of 64 bytes at a time: the next is sent when the last has come back.  A tenth
// of MESSAGES, over all connections, is the warm-up.
//
// It is one thread with epoll and bare system calls, so that it costs less than
// any server and leaves the server to be what is measured; the figure "load" is
// the share of a core that it used itself.
//
// Usage: load PORT PID CONNECTIONS MESSAGES, with PID the server's.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

const messageSize = 64

type result struct {
	Rate float64 `json:"rate"` // messages a second
	CPU  float64 `json:"cpu"`  // the server's, ns a message
	P50  float64 `json:"p50"`  // latency, ns
	P99  float64 `json:"p99"`
	Idle float64 `json:"idle"` // bytes that the server's memory grew by for a connection
	Load float64 `json:"load"`
}

func main() {
	var numbers [4]int
	if len(os.Args) != len(numbers)+1 {
		fail("usage: load PORT PID CONNECTIONS MESSAGES")
	}
	for i, text := range os.Args[1:] {
		number, err := strconv.Atoi(text)
		check(err)
		numbers[i] = number
	}
	port, server, connections, messages := numbers[0], numbers[1], numbers[2], numbers[3]
	var r result
	before := resident(server)
	l := connect(port, connections)
	r.Idle = float64(resident(server)-before) / float64(connections)
	l.run(max(1, messages/10))
	l.measure(&r, server, messages)
	line, err := json.Marshal(r)
	check(err)
	fmt.Println(string(line))
}

// A load is all connections with a message under way on each.
type load struct {
	epoll       int
	connections []connection
	latencies   []time.Duration
	start       time.Time
}

// A connection sends message, which no other one sends.
type connection struct {
	fd      int
	message [messageSize]byte
	answer  [messageSize]byte
	got     int           // of the answer
	sent    time.Duration // when, since the start
}

// connect opens the connections and leaves them idle, the server's handlers
// having come to wait for a second message.
func connect(port, n int) *load {
	l := &load{epoll: newEpoll(), connections: make([]connection, n), start: time.Now()}
	for i := range l.connections {
		c := &l.connections[i]
		copy(c.message[:], fmt.Sprintf("message of connection %d", i))
		c.fd = dial(port)
		c.send()
		for !c.receive() {
		}
		watch(l.epoll, c.fd, i)
	}
	time.Sleep(100 * time.Millisecond) // the last answer came before the wait
	return l
}

// measure takes the figures of n messages.
func (l *load) measure(r *result, server, n int) {
	l.latencies = make([]time.Duration, 0, n+len(l.connections))
	began, cpu, own := time.Now(), cpuTime(server), cpuTime(os.Getpid())
	l.run(n)
	wall := float64(time.Since(began))
	done := float64(len(l.latencies))
	r.CPU = float64(cpuTime(server)-cpu) / done
	r.Load = float64(cpuTime(os.Getpid())-own) / wall
	r.Rate = done / wall * 1e9
	slices.Sort(l.latencies)
	r.P50 = float64(l.latencies[len(l.latencies)/2])
	r.P99 = float64(l.latencies[len(l.latencies)*99/100])
}

// run exchanges n messages, and lets those come back that are under way then.
func (l *load) run(n int) {
	toSend, underWay := n, 0
	for i := range l.connections {
		if toSend > 0 {
			toSend--
			underWay++
			l.next(i)
		}
	}
	for underWay > 0 {
		for _, i := range wait(l.epoll) {
			c := &l.connections[i]
			if !c.receive() {
				continue
			}
			l.latencies = append(l.latencies, time.Since(l.start)-c.sent)
			if toSend > 0 {
				toSend--
				l.next(i)
			} else {
				underWay--
			}
		}
	}
}

func (l *load) next(i int) {
	c := &l.connections[i]
	c.sent = time.Since(l.start)
	c.send()
}

func (c *connection) send() {
	if write(c.fd, c.message[:]) != messageSize {
		fail("a message did not fit into an empty socket buffer")
	}
}

// receive takes what there is, and tells whether the answer is complete.
func (c *connection) receive() bool {
	c.got += read(c.fd, c.answer[c.got:])
	if c.got < messageSize {
		return false
	}
	if !bytes.Equal(c.message[:], c.answer[:]) {
		fail(fmt.Sprintf("the answer to %q is %q", c.message, c.answer))
	}
	c.got = 0
	return true
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, "load:", message)
	os.Exit(2)
}
