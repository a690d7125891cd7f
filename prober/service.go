package prober

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Module is how a port of a Service is asked: a closed set.
type Module string

// The modules.
const (
	ModuleTCP    Module = "tcp"     // connect and close
	ModuleHTTP   Module = "http"    // GET /; any status below 500 is well
	ModuleHTTPS  Module = "https"   // the same over TLS; the certificate is not checked
	ModuleDNS    Module = "dns"     // a query over UDP; a name that does not exist is an answer
	ModuleDNSTCP Module = "dns_tcp" // the same over TCP
	ModuleUDP    Module = "udp"     // what is sent must come back
)

// Modules are all of them.
var Modules = []Module{ModuleTCP, ModuleHTTP, ModuleHTTPS, ModuleDNS, ModuleDNSTCP, ModuleUDP}

// ParseModule knows a module by its name.
func ParseModule(name string) (Module, error) {
	if m := Module(name); slices.Contains(Modules, m) {
		return m, nil
	}
	return "", fmt.Errorf("no module %q; there are %v", name, Modules)
}

// UDP is whether it is asked over UDP.
func (m Module) UDP() bool { return m == ModuleDNS || m == ModuleUDP }

// ServiceTarget is a port of a Service in one IP family.
type ServiceTarget struct {
	// Service is namespace/name, Port its port's number.
	Service string
	Port    uint16
	Module  Module
	// VIP is where the Service answers, NodePort where the node does; the zero
	// value is not asked.
	VIP, NodePort netip.AddrPort
	// Endpoints are those that may get traffic, sorted by address.
	Endpoints []Endpoint
	// Changed is when they last changed; zero if they have not since they are known.
	Changed time.Time
	// Sticky says that a client stays with an endpoint.
	Sticky bool
	// Name is what the DNS modules ask for.
	Name string
}

// Endpoint is what may stand behind a Service.
type Endpoint struct {
	Address netip.AddrPort
	Node    string
	// Host says that the address is its node's own, not a pod's.
	Host bool
}

// host is what is asked for by any path: who answers must not be able to tell
// them apart.
func (t *ServiceTarget) host() string {
	namespace, name, _ := strings.Cut(t.Service, "/")
	return name + "." + namespace + ":" + strconv.Itoa(int(t.Port))
}

// Key names a target among all.
func (t *ServiceTarget) Key() TargetKey {
	return TargetKey{t.Service, t.Port, t.Module, t.VIP.Addr().Is6()}
}

// TargetKey names a target.
type TargetKey struct {
	Service string
	Port    uint16
	Module  Module
	IPv6    bool
}

// String is "namespace/name:port module family".
func (k TargetKey) String() string {
	l := k.Labels()
	return l[0] + ":" + l[1] + " " + l[2] + " " + l[3]
}

// Compare orders by name.
func (k TargetKey) Compare(o TargetKey) int {
	return cmp.Or(cmp.Compare(k.Service, o.Service), cmp.Compare(k.Port, o.Port), cmp.Compare(k.Module, o.Module), cmp.Compare(k.family(), o.family()))
}

func (k TargetKey) family() string {
	if k.IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// Labels are the values of service, port, module and ip_family, then more.
func (k TargetKey) Labels(more ...string) []string {
	return append([]string{k.Service, strconv.Itoa(int(k.Port)), string(k.Module), k.family()}, more...)
}

// Path is the way an attempt takes: a closed set.
type Path string

// The paths.
const (
	PathVIP      Path = "vip"
	PathEndpoint Path = "endpoint"
	PathNodePort Path = "nodeport"
)

// Reason is what became of an attempt: a closed set.
type Reason string

// The reasons.
const (
	ReasonOK          Reason = "ok"
	ReasonRefused     Reason = "refused"     // somebody says that nobody listens there
	ReasonReset       Reason = "reset"       // the connection was cut
	ReasonTimeout     Reason = "timeout"     // nobody says anything
	ReasonUnreachable Reason = "unreachable" // there is no way
	ReasonTLS         Reason = "tls"
	ReasonBadAnswer   Reason = "bad_answer"
	ReasonLocal       Reason = "local" // this node could not even try
	ReasonPanic       Reason = "panic"
)

// Reasons are all of them.
var Reasons = []Reason{ReasonOK, ReasonRefused, ReasonReset, ReasonTimeout, ReasonUnreachable, ReasonTLS, ReasonBadAnswer, ReasonLocal, ReasonPanic}

// Attempt is one over a new connection.
type Attempt struct {
	Module  Module
	Path    Path
	Address netip.AddrPort
	// Node and Host are the endpoint's.
	Node   string
	Host   bool
	Reason Reason
	// Phase is the one that failed; empty if none did.
	Phase Phase
	// Error is the error's text.
	Error string
	// Took is how long each phase took that was begun, Total how long all did.
	Took  []PhaseTime
	Total time.Duration
	// Backend is where the kernel sent it, if that is another address than
	// Address and is known.
	Backend netip.AddrPort
}

// PhaseTime is how long a phase took.
type PhaseTime struct {
	Phase Phase
	Took  time.Duration
}

// OK is whether it was answered as it should be.
func (a *Attempt) OK() bool { return a.Reason == ReasonOK }

// Connected is whether somebody accepted the connection, whatever came after.
func (a *Attempt) Connected() bool {
	connected := slices.ContainsFunc(a.Took, func(p PhaseTime) bool { return p.Phase != PhaseConnect })
	return !a.Module.UDP() && (a.OK() || connected)
}

// Answered is whether somebody at the address said something, good or bad.
func (a *Attempt) Answered() bool {
	return a.OK() || a.Connected() || a.Reason == ReasonRefused || a.Reason == ReasonReset || a.Reason == ReasonTLS || a.Reason == ReasonBadAnswer
}

// Round are the attempts at a target at one moment.
type Round struct {
	Target *ServiceTarget
	At     time.Time
	// Late is how much later than it should it began.
	Late     time.Duration
	Attempts []Attempt
}

// Attempt is the one that went a path; nil if none did.
func (r *Round) Attempt(p Path) *Attempt {
	for i := range r.Attempts {
		if r.Attempts[i].Path == p {
			return &r.Attempts[i]
		}
	}
	return nil
}
