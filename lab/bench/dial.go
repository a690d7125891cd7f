package bench

import (
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Dialled is what bare connections cost the process that made them.
type Dialled struct {
	// CPU is the process' time for one, in seconds.
	CPU float64
}

// Dial connects to an address and closes, count times, one after the other, as
// often as a prober would: the least that any probe can cost. At full speed each
// would cost less, on either side, as everything it needs is at hand.
func Dial(address string, count int, every time.Duration) (Dialled, error) {
	before, err := ownCPU()
	if err != nil {
		return Dialled{}, err
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for range count {
		<-tick.C
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return Dialled{}, err
		}
		c.Close()
	}
	after, err := ownCPU()
	if err != nil {
		return Dialled{}, err
	}
	return Dialled{(after - before) / float64(count)}, nil
}

func ownCPU() (float64, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	seconds := func(t unix.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime), nil
}
