package cause

import (
	"fmt"
	"net/netip"
	"time"
)

// Snapshot is everything that was known about one node at one instant. It is
// data: nothing in it does IO, and nobody writes to it after it was built. A
// part that was not observed is nil, and a cause that needs it is unknown.
type Snapshot struct {
	// Now is the instant; all causes judge the same one.
	Now time.Time
	// Name is the node's name.
	Name string
	// Expected says whether kube-proxy should run here at all; nil if not known.
	Expected *Expected
	// NotFound is where kube-proxy was looked for, if neither it nor a replacement
	// was found; else empty.
	NotFound string
	// Node is the Node object.
	Node *Node
	// Windows says that the node runs it: kube-proxy is another program there.
	Windows bool
	// Placement is what the kube-proxy DaemonSets say about this node.
	Placement *Placement
	// Pods are the kube-proxy pods of this node, running or meant for it.
	Pods *Pods
	// Config is the kube-proxy ConfigMap.
	Config *Config
	// Running is what the node's kube-proxy says that it runs with; nil if nobody
	// could ask it.
	Running *Running
	// Ports is what kube-proxy's ports answered; nil if they were not asked.
	Ports *Ports
	// NoTarget is the Service that should make kube-proxy a target of
	// monitoring and selects none of its pods; empty if there is no such one.
	NoTarget string
	// Server is the API server's version.
	Server *Version
	// Replaced is the reason for which another proxy says that it has taken
	// kube-proxy's place in the cluster; empty if none says so.
	Replaced string
	// EventsKnown says that the events were read; without, their absence says nothing.
	EventsKnown bool
	// Local is what the node itself shows; nil in the API's view.
	Local *Local
	// Dump says that this comes from files: nothing more will be read, and
	// every log is judged whatever the pod's state says.
	Dump bool
}

// Config is what kube-proxy's ConfigMap says, as far as it matters.
type Config struct {
	// Name is namespace/name of the ConfigMap.
	Name string
	// Missing says that there is no such ConfigMap, or none with a configuration.
	Missing bool
	// Error says why it could not be read as a KubeProxyConfiguration.
	Error string
	// Mode is as written; empty for the default.
	Mode string
	// ClusterCIDRs are the prefixes of clusterCIDR that could be parsed.
	ClusterCIDRs []netip.Prefix
	// BadCIDRs are those that could not.
	BadCIDRs []string
	// DetectLocal is detectLocalMode; empty for the default, ClusterCIDR.
	DetectLocal string
	// Hostname is hostnameOverride.
	Hostname string
	// MetricsBind and HealthzBind are addresses as written; empty for the defaults.
	MetricsBind, HealthzBind string
	// Settings are all that are written.
	Settings Settings
	// Since is when this content was first seen; zero if it was there before.
	Since time.Time
	// Modified is when the object was last written, by its managedFields; zero if
	// they do not tell.
	Modified time.Time
}

// Version is one of Kubernetes.
type Version struct{ Major, Minor int }

// String renders it as it is written in tags.
func (v Version) String() string { return fmt.Sprintf("v%d.%d", v.Major, v.Minor) }

// Expected is whether kube-proxy should run on a node, and why.
type Expected struct {
	Yes bool
	// Reason is one of the Reasons.
	Reason string
}

// Reasons why kube-proxy is expected on a node, or is not: a closed set.
const (
	ReasonDaemonSet = "daemonset"  // a DaemonSet runs it
	ReasonProcess   = "process"    // it was seen on the node
	ReasonStaticPod = "static_pod" // the kubelet runs it from a file
	ReasonDefault   = "default"    // it was here, or its ConfigMap is, and nothing replaces it
	ReasonEmbedded  = "embedded"   // it is inside another process (k3s, MicroK8s)
	ReasonCilium    = "cilium"     // Cilium replaces it
	ReasonGKE       = "gke_dataplane_v2"
	ReasonOVN       = "ovn_kubernetes"
	ReasonAntrea    = "antrea"
	ReasonCalico    = "calico_ebpf"
	ReasonVirtual   = "virtual_node" // no kernel of its own (virtual-kubelet, Fargate)
	ReasonExcluded  = "excluded"     // the DaemonSet names this kind of node as not its own
)

// Node is what the Node object says.
type Node struct {
	Created time.Time
	// Ready is nil if the object has no such condition yet.
	Ready *Condition
	// Pressure are the conditions MemoryPressure, DiskPressure and PIDPressure
	// as far as they exist.
	Pressure []Condition
	// Problems are conditions of other reporters (a problem detector) that are True.
	Problems []Condition
	// PodCIDRs are the node's pod ranges that could be parsed.
	PodCIDRs []netip.Prefix
	// Addresses are the node's internal IP addresses.
	Addresses []netip.Addr
	// Events are the warnings about the Node, newest first.
	Events []Event
	// Draining says that the node is being taken out of service: kube-proxy
	// then answers /healthz with 503 on purpose.
	Draining bool
}

// Condition is a condition of a Node or Pod.
type Condition struct {
	// Type is its name, for instance MemoryPressure.
	Type string
	// Status is True, False or Unknown.
	Status string
	// Reason and Message are the reporter's words.
	Reason, Message string
	// Since is the last transition.
	Since time.Time
}

// Placement is whether a DaemonSet wants a pod on a node.
type Placement struct {
	// DaemonSet is namespace/name; empty if there is none for kube-proxy.
	DaemonSet string
	// Created is the DaemonSet's age: a pod cannot have been missing longer.
	Created time.Time
	// WantedSince is since when it wants a pod here, as far as anybody watched.
	WantedSince time.Time
	// Selected says that node selector and affinity match the node.
	Selected bool
	// Unselected is the term that does not match.
	Unselected string
	// Untolerated is the taint that keeps the pod off, if any.
	Untolerated string
	// RollingOut says that the DaemonSet is replacing its pods.
	RollingOut bool
	// Failure is the DaemonSet's newest FailedCreate event, if any.
	Failure *Event
}

// Pods are the kube-proxy pods of a node.
type Pods struct {
	// List holds the pods, the one that matters first: a node has one, and for
	// a moment two while one replaces the other.
	List []Pod
	// GoneSince is when the last one was seen to disappear or, if none was ever
	// seen, when the node was first seen without one.
	GoneSince time.Time
	// SeenGoing says that it was seen to disappear then: what kept others from
	// being made before is no reason for this one.
	SeenGoing bool
	// Eviction is the last that was seen; nil if none was.
	Eviction *Eviction
}

// Eviction is of a pod that may be gone by now.
type Eviction struct {
	Pod, Message string
	// Seen is when it was first seen.
	Seen time.Time
}

// Pod is what a kube-proxy pod says.
type Pod struct {
	Name    string
	Created time.Time
	// Static says that it mirrors a static pod: its status can outlive the truth.
	Static bool
	// Deleting says that it is on its way out.
	Deleting bool
	// Phase, Reason and Message are the pod's status.
	Phase, Reason, Message string
	// Scheduled and Ready are conditions, nil if not reported.
	Scheduled, Ready *Condition
	// Container is kube-proxy's container; nil if its status is not reported.
	Container *Container
	// Events are the pod's warnings, newest first.
	Events []Event
	// Log is what its last terminated container said; nil if there was none
	// to read.
	Log *Log
	// Current is what its running container says; nil if that was not read:
	// it is only of a pod that is not well.
	Current *Log
	// Hostname is the literal value of --hostname-override; empty if there is
	// no such flag or a variable fills it.
	Hostname string
	// HostnameFlag says that there is such a flag.
	HostnameFlag bool
	// Image is the one that the pod asks for.
	Image string
	// ConfigFrom is namespace/name of the ConfigMap that the file of --config is
	// of; empty if it is of none, or there is no such flag.
	ConfigFrom string
	// ArgsKnown says that its command line is known.
	ArgsKnown bool
	// Flags are the addresses to bind to, if the flags decide: the command line is
	// known, a shell does not parse it, and it has no --config. Else nil.
	Flags *BindFlags
}

// BindFlags are the values of --metrics-bind-address and --healthz-bind-address,
// empty if the command line has no such flag.
type BindFlags struct {
	Metrics, Healthz string
}

// BindVariable stands for a bind address that a variable fills in.
const BindVariable = "$"

// Evicted is whether the kubelet evicted the pod.
func (p *Pod) Evicted() bool { return p.Phase == "Failed" && p.Reason == "Evicted" }

// Container is the status of kube-proxy's container.
type Container struct {
	Image string
	Ready bool
	// Restarts counts them over the pod's life.
	Restarts int32
	// WaitingReason and WaitingMessage are set while it waits.
	WaitingReason, WaitingMessage string
	// Started is when it began to run; zero if it does not run.
	Started time.Time
	// Last is the newest termination, nil if there was none.
	Last *Termination
}

// Running reports whether the container runs.
func (c *Container) Running() bool { return !c.Started.IsZero() }

// ends counts how often the container ended in the pod's life.
func (c *Container) ends() int32 {
	if !c.Running() && c.WaitingReason == "" && c.Last != nil {
		return c.Restarts + 1 // ended and not started again
	}
	return c.Restarts
}

// Termination is how a container ended.
type Termination struct {
	ContainerID       string
	ExitCode          int32
	Signal            int32
	Reason, Message   string
	Started, Finished time.Time
}

// Event is a Kubernetes event, shortened.
type Event struct {
	Reason, Message string
	// Time is when it was last seen.
	Time  time.Time
	Count int32
}

// Log is the outcome of reading a terminated container's log.
type Log struct {
	// ContainerID tells whose log was read; it may be an older container than
	// the pod's last one while the newer is being read.
	ContainerID string
	// Error says why it could not be read; empty if it was.
	Error string
	// Class is "cause/detail" as package kubelog names it, empty if no line decides.
	Class string
	// Line is the line that decides, shortened; else the last error line.
	Line string
	// At is when it was written; zero if nothing tells.
	At time.Time
}
