package cause

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Local is what a node shows to a process that runs on it, whatever else is
// gone. A part that was not observed is nil.
type Local struct {
	// API are the addresses of the API server as this node sees them; nil if none
	// was asked.
	API []APIAddress
	// HeardSince is since when the API server has answered the exporter's own watches
	// without a break: before that kube-proxy need not have heard either. Zero if it
	// has never not answered.
	HeardSince time.Time
	// Proxy is kube-proxy as the node shows it; nil if nobody looked.
	Proxy *Proxy
	// Conntrack is the kernel's table of connections.
	Conntrack *Conntrack
	// Inotify says whether the kernel gives one more inotify instance to the user
	// as whom kube-proxy runs.
	Inotify *Limit
	// Runtime is the container runtime's socket.
	Runtime *Socket
	// Log is what kube-proxy's newest container says, and Before what it said
	// before it was started again; nil if its logs cannot be read, or it was not.
	Log, Before *Log
	// Probes are the Services that are asked from this node; nil if none is.
	Probes []Probe
	// Canary is what the moving Service showed; nil if it shows nothing.
	Canary *Canary
	// Needs is what the node and kube-proxy's image have of what it needs.
	Needs *Needs
	// Audit is how the kernel's rules differ from what the API wants; nil if nobody
	// compares.
	Audit *Audit
	// Rules are the rule worlds in which kube-proxy's rules were found.
	Rules *RuleWorlds
}

// APIAddress is the newest attempt at an address of the API server, and how
// long it has been so.
type APIAddress struct {
	// Kind says whose address it is.
	Kind string
	// Address is host:port.
	Address string
	// Class is ok, or one of the details of api_unreachable, or failed.
	Class string
	// Phase is the one that failed: dns, connect, tls or answer.
	Phase, Error string
	// Since and At are the first and the newest of the Times attempts in a row
	// that went the same way.
	Since, At time.Time
	Times     int
}

// Kinds of addresses.
const (
	// KindKubeProxy is the one in kube-proxy's kubeconfig, asked as kube-proxy if
	// its credentials may be read.
	KindKubeProxy = "kube-proxy"
	// KindVIP is the Service kubernetes.
	KindVIP = "vip"
	// KindEndpoint is an API server itself.
	KindEndpoint = "endpoint"
)

// APIClassOK is the class of an attempt that was answered as it should be.
const APIClassOK = "ok"

func (a APIAddress) String() string {
	what := map[string]string{KindKubeProxy: "the address in kube-proxy's kubeconfig", KindVIP: "the Service kubernetes", KindEndpoint: "the API server's endpoint"}[a.Kind]
	if a.Class == APIClassOK {
		return fmt.Sprintf("%s, %s: answers %s", what, a.Address, stamp(a.At))
	}
	return fmt.Sprintf("%s, %s: %s in phase %s, %d times in a row, last %s: %s", what, a.Address, a.Class, a.Phase, a.Times, stamp(a.At), quote(a.Error))
}

// Proxy is a kube-proxy process and what it answers on the loopback address.
type Proxy struct {
	// Seen says that there is one, by its process or by its ports; it may have
	// ended since.
	Seen bool
	// Process is nil if the node's processes cannot be seen, or none is kube-proxy.
	Process *Process
	// Ended says that there was one, and is none any more, and Alive when it was
	// last seen. A kube-proxy inside another process is never seen.
	Ended bool
	Alive time.Time
	// HealthzForeign says that what answers on its port for health is somebody
	// else.
	HealthzForeign bool
	// Ports are its two ports.
	Ports Ports
	// Started is when the process began; zero if it does not tell.
	Started time.Time
	// Families are the IP families that it serves; nil if it does not tell.
	Families []Family
	// Eligible is what /healthz says of the node; nil if it does not tell.
	Eligible *bool
	// FilesOpen and FilesMax are its descriptors; 0 if it does not tell.
	FilesOpen, FilesMax float64
	// FileDiffers are the paths of settings on which its configuration file
	// differs from what it runs with, since FileSince; File is its name.
	FileDiffers []string
	FileSince   time.Time
	File        string
}

// Process is what the kernel says of it.
type Process struct {
	PID int
	// State is the letter of /proc/PID/stat: T is stopped by a signal; Since and
	// Times are since when and how often in a row it was seen so.
	State   string
	Since   time.Time
	Times   int
	Started time.Time
}

// Family is how kube-proxy keeps the rules of an IP family current.
type Family struct {
	Name string // IPv4 or IPv6
	// Queued is when it last heard of a change, Synced when it last wrote its
	// rules; zero if never.
	Queued, Synced time.Time
	// Failures counts the tries to write that failed; Failing says since when it
	// has grown while nothing was written, zero if it has not.
	Failures float64
	Failing  time.Time
	// Unheard is the first change in the API of which it has not heard although
	// it must, and UnheardSince when the API said so; empty if there is none.
	Unheard      string
	UnheardSince time.Time
}

// Canary is where the Service led whose backend is moved now and then.
type Canary struct {
	// At is the newest answer, Times how many in a row came from there.
	At    time.Time
	Times int
	// Behind is since when another should have answered; zero if the right one did.
	Behind time.Time
	// Answers is the address that answered, Node its node's name, Missed the first
	// address that should have answered; empty if the right one did.
	Answers, Missed string
	Node            string
}

// Conntrack is the use of the table of connections.
type Conntrack struct {
	Entries, Max float64
	// Drops counts the connections that found no room; DropsSince is since when
	// it has grown, zero if it has not.
	Drops      float64
	DropsSince time.Time
}

// Limit is whether there is some of a resource left.
type Limit struct {
	Left  bool
	Error string
	Since time.Time
}

// Socket is whether somebody listens on a Unix socket.
type Socket struct {
	Path  string
	Error string // empty if somebody does
	Since time.Time
	Times int
}

// Needs is what kube-proxy needs and was found missing.
type Needs struct {
	// Mode is the proxy mode, by what runs or by its configuration; empty if
	// nobody knows.
	Mode string
	// Programs says of each program that the mode needs and its root file system
	// lacks where it was looked for.
	Programs []string
	// NoForwarding is since when the sysctl Forwarding, of the family of the
	// cluster's Services, is 0; zero if it is not.
	NoForwarding time.Time
	Forwarding   string
	// What the kernel does not show, or not yet.
	NoConntrack, NoNFTables, NoIPTables, NoIPVS bool
}

// Audit is how the kernel's rules differ from what the API wants, beyond what
// kube-proxy is about to write.
type Audit struct {
	// At is when the newest look began; Lacks says what is not known: then only what
	// was found beside it counts.
	At    time.Time
	Lacks string
	// Found says of what lacks that something differed when it was last known.
	Found bool
	// Services are how many were compared, Drift how many differ, by kind.
	Services int
	Drift    map[string]int
	// Flushed are the IP families of which no rule leads where it should.
	Flushed []string
	// Since is when the oldest difference began; zero if there is none.
	Since time.Time
	// Examples say to a person what differs.
	Examples []string
}

// drifted is the verdict of the audit; Unknown if there is none.
func (a *Audit) drifted() Verdict {
	switch {
	case a == nil:
		return unknown("an audit of the rules")
	case a.Lacks != "" && len(a.Flushed) == 0 && a.kinds() == "":
		return unknown(a.Lacks)
	case len(a.Flushed) > 0:
		return active(a.Since, Finding{"flushed", append([]string{fmt.Sprintf("%s: no packet to any Service is sent where it should be, %s", strings.Join(a.Flushed, " and "), stamp(a.At))}, a.Examples...)})
	case a.Since.IsZero():
		return inactive()
	}
	return active(a.Since, Finding{"drift", append([]string{fmt.Sprintf("of the rules of %d Services compared %s: %s", a.Services, stamp(a.At), a.kinds())}, a.Examples...)})
}

// kinds says how many differ in which way.
func (a *Audit) kinds() string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(a.Drift)) {
		if n := a.Drift[k]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(k, "_", " ")))
		}
	}
	return strings.Join(parts, ", ")
}

// RuleWorlds says where rules of kube-proxy are that take effect.
type RuleWorlds struct {
	// IPTables is by iptables on nf_tables, Legacy by the old iptables, NFTables
	// by kube-proxy's own mode nftables.
	IPTables, Legacy, NFTables bool
	Since                      time.Time
}

// began is when the kube-proxy that is judged began; zero if nobody knows.
func (p *Proxy) began() time.Time {
	if !p.Started.IsZero() {
		return p.Started
	}
	if p.Process != nil {
		return p.Process.Started
	}
	return time.Time{}
}

// says is whether a port has gone this way often enough, and lately enough in
// the life of the process, if that is known.
func (p *Proxy) says(port Port, outcome string) bool {
	began := p.began()
	return port.Outcome == outcome && port.Times >= confirmed && (began.IsZero() || port.At.Sub(began) >= startup)
}

// stopped is whether the process was stopped by a signal.
func (p *Proxy) stopped() bool {
	return p.Process != nil && strings.HasPrefix(p.Process.State, "T") && p.Process.Times >= confirmed
}

// silent is whether it accepts connections and answers none.
func (p *Proxy) silent() bool {
	return p.says(p.Ports.Metrics, PortSilent) && p.says(p.Ports.Healthz, PortSilent)
}

// lastWords is how long before the end of a process it says why it ends.
const lastWords = time.Minute

// ending is how long a process that is told to end may still be there after it
// has closed its ports.
const ending = 5 * time.Second

// says is the log that tells what is wrong with a kube-proxy that is not well;
// nil if none does.
func (l *Local) says(s *Snapshot) *Log {
	p := l.Proxy
	if p == nil || localHealth(s) == Active || l.Log == nil {
		return nil
	}
	loops := l.Before != nil && l.Before.Class != ""
	age := s.Now.Sub(p.began())
	switch young := !p.began().IsZero() && age < startup; {
	case p.Ended && !loops && (s.Now.Sub(p.Alive) < startup || l.Log.At.Before(p.Alive.Add(-lastWords))):
		return nil // it is rolled out anew; or it had gone on after that, and was taken away
	case p.Ended:
	case p.says(p.Ports.Healthz, PortRefused) && s.Now.Sub(p.Ports.Healthz.Since) < ending:
		return nil
	case localHealth(s) == Inactive:
	case !young, !loops && age < startup/2: // a first try may fail; in a loop it is between two
		return nil
	}
	for _, log := range []*Log{l.Log, l.Before} {
		switch {
		case log == nil, log.Class == "", log.At.IsZero(), s.Now.Sub(log.At) > said:
		case strings.Contains(log.Line, "Waiting for caches to sync"): // every start says so
		default:
			return log
		}
	}
	return nil
}

// localHealth is whether the node's kube-proxy does its job, as the node shows.
func localHealth(s *Snapshot) State {
	p := s.Local.Proxy
	if p == nil || !p.Seen {
		return Unknown
	}
	h := p.Ports.Healthz
	switch {
	case p.stopped(), p.silent(), p.Ended:
		return Inactive
	case p.says(h, PortRefused):
		return Inactive
	case h.Outcome != PortAnswered, p.HealthzForeign:
		return Unknown
	case h.Status == statusOK, h.Livez == statusOK:
		return Active
	case h.Status == statusUnavailable:
		return Inactive
	}
	return Unknown
}
