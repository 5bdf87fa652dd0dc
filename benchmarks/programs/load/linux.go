package main

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// dial opens a blocking connection.
func dial(port int) int {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	check(err)
	address := syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	check(syscall.Connect(fd, &address))
	check(syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1))
	return fd
}

func newEpoll() int {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	check(err)
	return epoll
}

const edgeTriggered = 1 << 31 // syscall.EPOLLET is negative where Events is unsigned

// watch makes wait return i when fd has something new to read.
func watch(epoll, fd, i int) {
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | edgeTriggered, Fd: int32(i)}
	check(syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &event))
}

var (
	events [256]syscall.EpollEvent
	ready  [256]int
)

// wait blocks until there is something to read.
func wait(epoll int) []int {
	n, err := syscall.EpollWait(epoll, events[:], -1)
	if err == syscall.EINTR {
		n = 0
	} else {
		check(err)
	}
	for i := range n {
		ready[i] = int(events[i].Fd)
	}
	return ready[:n]
}

func read(fd int, buffer []byte) int {
	return raw(syscall.SYS_READ, fd, buffer, "read")
}

func write(fd int, buffer []byte) int {
	return raw(syscall.SYS_WRITE, fd, buffer, "write")
}

// raw makes a call that does not block, so that Go's scheduler need not know.
func raw(call uintptr, fd int, buffer []byte, what string) int {
	n, _, errno := syscall.RawSyscall(
		call, uintptr(fd), uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)))
	if errno != 0 {
		fail(what + ": " + errno.Error())
	}
	if n == 0 {
		fail("the server closed a connection")
	}
	return int(n)
}

// cpuTime is what all threads of a process have used, as its CPU clock tells
// it: to the nanosecond, which /proc/PID/stat does not.
func cpuTime(pid int) time.Duration {
	const scheduler = 2
	var t syscall.Timespec
	clock := ^pid<<3 | scheduler
	_, _, errno := syscall.RawSyscall(
		syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		fail("clock_gettime: " + errno.Error())
	}
	return time.Duration(t.Nano())
}

// resident is the memory that a process has in RAM.
func resident(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	check(err)
	var size, pages int
	_, err = fmt.Sscan(string(text), &size, &pages)
	check(err)
	return pages * os.Getpagesize()
}
