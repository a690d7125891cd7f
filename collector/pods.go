package collector

import (
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// mirrorAnnotation marks the API's image of a static pod.
const mirrorAnnotation = corev1.MirrorPodAnnotationKey

// podRow is what is kept of a kube-proxy pod.
type podRow struct {
	namespace, uid string
	// node is where it runs or, while unscheduled, where it is meant to run.
	node      string
	labels    map[string]string
	container string // its kube-proxy container's name
	// running is the id of the container that runs; empty if none does.
	running string
	// ended is the id of the container that ended last; empty if none did.
	ended string
	// previous says that another came after it: its log is the previous one.
	previous bool
	status   cause.Pod
}

func convertPod(object any) (podRow, bool) {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return podRow{}, false
	}
	row := podRow{namespace: intern(p.Namespace), uid: string(p.UID), node: p.Spec.NodeName, labels: internMap(p.Labels)}
	if row.node == "" {
		row.node = intendedNode(p)
	}
	if row.node == "" {
		return podRow{}, false // nobody's yet
	}
	_, mirror := p.Annotations[mirrorAnnotation]
	row.status = cause.Pod{
		Name: p.Name, Created: p.CreationTimestamp.Time, Static: mirror, Deleting: p.DeletionTimestamp != nil,
		Phase: intern(string(p.Status.Phase)), Reason: p.Status.Reason, Message: p.Status.Message,
	}
	for _, c := range p.Status.Conditions {
		condition := &cause.Condition{
			Type: intern(string(c.Type)), Status: intern(string(c.Status)), Reason: intern(c.Reason), Message: intern(c.Message), Since: c.LastTransitionTime.Time,
		}
		switch c.Type {
		case corev1.PodScheduled:
			row.status.Scheduled = condition
		case corev1.PodReady:
			row.status.Ready = condition
		}
	}
	row.container = intern(kubeProxyContainer(p))
	for _, c := range p.Spec.Containers {
		if c.Name == row.container {
			row.status.Image = intern(c.Image)
			argv := append(slices.Clone(c.Command), c.Args...)
			row.status.Hostname, row.status.HostnameFlag = flagValue(argv, "--hostname-override")
			row.status.Hostname = strings.ToLower(strings.TrimSpace(row.status.Hostname)) // as kube-proxy does
			row.status.ArgsKnown = len(argv) > 0
			file, configured := flagValue(argv, "--config")
			if configured {
				row.status.ConfigFrom = intern(configMapAt(p, &c, file))
			}
			if !configured && runsKubeProxy(argv) {
				row.status.Flags = &cause.BindFlags{Metrics: bindFlag(argv, "--metrics-bind-address"), Healthz: bindFlag(argv, "--healthz-bind-address")}
			}
		}
	}
	if init := unfinishedInit(p); init != nil {
		row.container = init.Name
		row.status.Container = convertContainer(init)
		row.ended, row.previous = lastEnded(init)
		return row, true
	}
	for _, s := range p.Status.ContainerStatuses {
		if s.Name == row.container || len(p.Status.ContainerStatuses) == 1 {
			row.status.Container = convertContainer(&s)
			row.ended, row.previous = lastEnded(&s)
			if s.State.Running != nil {
				row.running = s.ContainerID
			}
		}
	}
	return row, true
}

// configMapAt is the ConfigMap whose volume holds a path of a container, as
// namespace/name; empty if none does.
func configMapAt(p *corev1.Pod, c *corev1.Container, path string) string {
	for _, m := range c.VolumeMounts {
		if m.MountPath == "" || path != m.MountPath && !strings.HasPrefix(path, strings.TrimSuffix(m.MountPath, "/")+"/") {
			continue
		}
		for _, v := range p.Spec.Volumes {
			if v.Name == m.Name && v.ConfigMap != nil {
				return p.Namespace + "/" + v.ConfigMap.Name
			}
		}
	}
	return ""
}

// flagValue is the literal value of a flag, and whether there is such a flag;
// what a variable fills in is not literal.
func flagValue(argv []string, flag string) (value string, found bool) {
	for i, a := range argv {
		if name, value, given := strings.Cut(a, "="); strings.HasPrefix(a, "--") && !strings.Contains(name, " ") {
			a = strings.ReplaceAll(name, "_", "-") // as kube-proxy reads it
			if given {
				a += "=" + value
			}
		}
		switch {
		case strings.HasPrefix(a, flag+"="):
			value, found = a[len(flag)+1:], true
		case a == flag:
			value, found = strings.Join(argv[i+1:min(i+2, len(argv))], ""), true
		case strings.Contains(a, flag+"=") || strings.Contains(a, flag+" "):
			return "", true // inside a shell's command line
		}
	}
	if strings.Contains(value, "$") {
		value = ""
	}
	return value, found
}

// runsKubeProxy reports whether a command line is kube-proxy's own, so that it has
// all of its flags: not a shell's or a script's. Programs that start another, such
// as go-runner, have it as an argument.
func runsKubeProxy(argv []string) bool {
	shell := slices.ContainsFunc(argv, func(a string) bool { return strings.ContainsAny(a, " \n") })
	return !shell && slices.ContainsFunc(argv, func(a string) bool { return path.Base(a) == "kube-proxy" })
}

// bindFlag returns the value of a flag that is an address; cause.BindVariable if
// a variable fills it in, and empty if there is no such flag.
func bindFlag(argv []string, flag string) string {
	if _, found := flagValue(argv, strings.Replace(flag, "-bind-address", "-port", 1)); found {
		return cause.BindVariable // the older flag for the port decides too
	}
	value, found := flagValue(argv, flag)
	if found && value == "" {
		return cause.BindVariable
	}
	return intern(value)
}

// intendedNode is the node that the DaemonSet controller made the pod for: it
// pins each by an affinity to the node's name.
func intendedNode(p *corev1.Pod) string {
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil {
		return ""
	}
	required := p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil {
		return ""
	}
	for _, t := range required.NodeSelectorTerms {
		for _, f := range t.MatchFields {
			if f.Key == "metadata.name" && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}

// kubeProxyContainer is the name of the container that is kube-proxy; side-cars
// are not it.
func kubeProxyContainer(p *corev1.Pod) string {
	for _, c := range p.Spec.Containers {
		if strings.HasPrefix(c.Name, "kube-proxy") {
			return c.Name
		}
	}
	if len(p.Spec.Containers) > 0 {
		return p.Spec.Containers[0].Name
	}
	return ""
}

// lastEnded is the id of the container that ended last, and whether another
// came after it. The kubelet keeps the log of no older one.
func lastEnded(s *corev1.ContainerStatus) (id string, previous bool) {
	if now := s.State.Terminated; now != nil {
		return now.ContainerID, false
	}
	if last := s.LastTerminationState.Terminated; last != nil {
		return last.ContainerID, true
	}
	return "", false
}

// unfinishedInit is the init container that the pod waits for, if there is one:
// until it is done, what it does is what kube-proxy does.
func unfinishedInit(p *corev1.Pod) *corev1.ContainerStatus {
	for i := range p.Status.InitContainerStatuses {
		s := &p.Status.InitContainerStatuses[i]
		done := s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
		sidecar := s.Started != nil && *s.Started && s.State.Running != nil
		if done || sidecar {
			continue
		}
		if w := s.State.Waiting; w != nil && w.Reason == "PodInitializing" {
			return nil // its turn has not come
		}
		return s
	}
	return nil
}

func convertContainer(s *corev1.ContainerStatus) *cause.Container {
	c := &cause.Container{Image: intern(s.Image), Ready: s.Ready, Restarts: s.RestartCount}
	last := s.LastTerminationState.Terminated
	switch {
	case s.State.Running != nil:
		c.Started = s.State.Running.StartedAt.Time
		if c.Started.IsZero() {
			c.Started = time.Unix(0, 1) // it runs; since when is not told
		}
	case s.State.Waiting != nil:
		c.WaitingReason, c.WaitingMessage = s.State.Waiting.Reason, s.State.Waiting.Message
	case s.State.Terminated != nil:
		last = s.State.Terminated
	}
	// A kubelet that lost track of a container says so, without times.
	if last != nil && (last.Reason != "ContainerStatusUnknown" || !last.FinishedAt.IsZero()) {
		c.Last = &cause.Termination{
			ContainerID: last.ContainerID, ExitCode: last.ExitCode, Signal: last.Signal, Reason: last.Reason, Message: last.Message,
			Started: last.StartedAt.Time, Finished: last.FinishedAt.Time,
		}
		if c.Last.Started.Unix() <= 0 {
			c.Last.Started = c.Last.Finished // it never began: the runtime says 1970
		}
	}
	return c
}
