package bench

import (
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Dialled is what bare connections cost the process that made them.
type Dialled struct {
	// CPU is the process' time for one, in seconds, and Answer how long an answer
	// took, if one was asked for.
	CPU, Answer float64
}

// Dial connects to an address and closes, count times, one after the other, as
// often as a prober would: the least that any probe can cost. At full speed each
// would cost less, on either side, as everything it needs is at hand. With get it
// asks for the page at the root and reads the answer.
func Dial(address string, count int, every time.Duration, get bool) (Dialled, error) {
	before, err := ownCPU()
	if err != nil {
		return Dialled{}, err
	}
	var answers time.Duration
	tick := time.NewTicker(every)
	defer tick.Stop()
	for range count {
		<-tick.C
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return Dialled{}, err
		}
		if get {
			took, err := getRoot(c)
			if err != nil {
				return Dialled{}, err
			}
			answers += took
		}
		c.Close()
	}
	after, err := ownCPU()
	if err != nil {
		return Dialled{}, err
	}
	return Dialled{(after - before) / float64(count), answers.Seconds() / float64(count)}, nil
}

// getRoot is how long it takes from the question to the end of the answer.
func getRoot(c net.Conn) (time.Duration, error) {
	began := time.Now()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, err
	}
	_, err := io.Copy(io.Discard, c)
	return time.Since(began), err
}

func ownCPU() (float64, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	seconds := func(t unix.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime), nil
}
